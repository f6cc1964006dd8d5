"""From rows to questions: what a model is asked, and all answers that are right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lorakit.core.errors import RecipeError
from lorakit.metrics.squad import normalise
from lorakit.tasks.base import Task
from lorakit.tasks.benchmarks import benchmark_named
from lorakit.tasks.benchmarks.base import Benchmark
from lorakit.tasks.chat import before_turn, with_template
from lorakit.tasks.completion import read_pairs
from lorakit.tasks.rows import Row

ASKED = ("chat", "completion", "seq2seq")  # the tasks whose rows have a question and an answer


@dataclass(frozen=True)
class Question:
    """A prompt as the model is to see it, its references, and the fields of its (first) row.

    No reference means that no answer is the right one.
    """

    prompt: str
    references: tuple[str, ...]
    fields: Mapping[str, Any]


def group_rows(rows: Sequence[Row], task: Any) -> list[list[int]]:
    """The places of rows that are one question, in the order of their first rows.

    The benchmark says what they share; without one it is the prompt. Other tasks' rows are alone.
    """
    own = _benchmark(task)
    if task.name not in ASKED or task.name == "chat" or (own is not None and own.answers):
        return [[place] for place in range(len(rows))]
    if own is not None and own.group is not None:
        keys: list[Any] = [row.fields.get(own.group) for row in rows]
    else:
        keys = [prompt for prompt, _ in read_pairs(task.options, rows)]
    groups: dict[Any, list[int]] = {}
    for place, key in enumerate(keys):
        groups.setdefault(key, []).append(place)
    return list(groups.values())


def questions(
    rows: Sequence[Row], groups: Sequence[Sequence[int]], task: Any, tokenizer: Any
) -> list[Question]:
    """A question for each group of rows, with the answers of all of them."""
    if task.name not in ASKED:
        raise RecipeError(
            f"Metrics of texts are for {', '.join(ASKED)}; {task.name} has metrics of its own. "
            "Leave out --metrics."
        )
    pairs = _talks(rows, task, tokenizer) if task.name == "chat" else read_pairs(task.options, rows)
    own = _benchmark(task)
    found = []
    for group in groups:
        first = rows[group[0]].fields
        references = [pairs[place][1] for place in group]
        if own is not None and own.answers is not None:
            references = [str(text) for text in first[own.answers]]
        if own is not None and own.blank is not None:
            references = [text for text in references if text != own.blank]
        found.append(Question(pairs[group[0]][0], tuple(dict.fromkeys(references)), first))
    return found


def settle(answer: str, task: Task) -> str:
    """The answer as it is scored: nothing where it says, in the benchmark's word, there is none."""
    own = _benchmark(task)
    answer = answer.strip()
    blank = own is not None and own.blank is not None and normalise(answer) == own.blank
    return "" if blank else answer


def _benchmark(task: Any) -> Benchmark | None:
    return benchmark_named(task.options.benchmark) if task.options.benchmark else None


def _talks(rows: Sequence[Row], task: Any, tokenizer: Any) -> list[tuple[str, str]]:
    """Conversations up to the assistant's last turn, in the template, and that turn."""
    tokenizer = with_template(tokenizer, task.options.chat_template)
    found = []
    for messages in task.read(rows, training=False):
        last = max(at for at, turn in enumerate(messages) if turn["role"] == "assistant")
        found.append((before_turn(messages, last, tokenizer), messages[last]["content"]))
    return found
