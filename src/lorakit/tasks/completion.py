"""Completion: a prompt, and what follows it; the loss counts what follows alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from lorakit.tasks.base import (
    IGNORED,
    Features,
    TokenTask,
    ending,
    last_of,
    plain_ids,
    prompt_ids,
)
from lorakit.tasks.options import DataOptions
from lorakit.tasks.rows import Row
from lorakit.tasks.shapes import prompt_and_completion


class CompletionTask(TokenTask):
    """Rows of prompt and completion for a causal language model."""

    name: ClassVar[str] = "completion"
    kind: ClassVar[str] = "causal"

    def read(self, rows: Sequence[Row], *, training: bool) -> list[tuple[str, str]]:
        return read_pairs(self.options, rows)

    def encode(self, examples: Sequence[Any], tokenizer: Any, longest: int) -> list[Features]:
        return [self._encode(a, b, tokenizer, longest) for a, b in examples]

    def _encode(self, prompt: str, completion: str, tokenizer: Any, longest: int) -> Features:
        before = prompt_ids(prompt, tokenizer)
        after = plain_ids(completion, tokenizer) + ending(tokenizer)
        if len(before) + len(after) > longest:
            self.cut += 1
            after = after[: longest - 1]
            # What is near the completion tells most about it: the prompt loses its beginning.
            before = last_of(before, longest - len(after), tokenizer)
        ids = before + after
        labels = [IGNORED] * len(before) + after
        return {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": labels}


def read_pairs(options: DataOptions, rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Prompt and completion of every row; a completion must not be empty."""
    asked, answered = prompt_and_completion(options.prompt, options.completion, rows[0])
    found = []
    for row in rows:
        prompt, completion = asked(row), answered(row)
        if not completion.strip():
            raise row.error("the completion is empty, so there is nothing to learn from it.")
        found.append((prompt, completion))
    return found
