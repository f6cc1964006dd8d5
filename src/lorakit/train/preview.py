"""Rows as training sees them: the text of each, and which of it is learned."""

from __future__ import annotations

import itertools
import statistics
from dataclasses import asdict, dataclass
from typing import Any

from lorakit.core.errors import DataError, RecipeError
from lorakit.models.load import load_config, load_tokenizer
from lorakit.tasks import make_task
from lorakit.tasks.base import IGNORED, Features
from lorakit.tasks.data import Checked, encode, longest_row, read_data, split_rows
from lorakit.tasks.options import DataOptions
from lorakit.train.recipe import Recipe

SAMPLE = 500  # rows that are made into tokens, to say how long rows are
LOOK = 200  # rows that a task is tried on


@dataclass(frozen=True)
class Piece:
    """Consecutive tokens of a row as text; `learned` where the loss counts them."""

    text: str
    tokens: int
    learned: bool


@dataclass(frozen=True)
class Rendered:
    """A row: its pieces in their order, and the label or score where that is what is learned."""

    pieces: tuple[Piece, ...]
    answer: str | None = None

    def __str__(self) -> str:
        text = "".join(f"[[{own.text}]]" if own.learned else own.text for own in self.pieces)
        return text if self.answer is None else f"{text} -> {self.answer}"


@dataclass(frozen=True)
class Preview:
    """`rows` to train and `held` to evaluate on, some of them rendered, and how long they are.

    `median` and `longest` count tokens, `learned` is the share of them that carries loss, `cut`
    how many of the `seen` rows are longer than `limit` tokens.
    """

    rows: int
    held: int
    shown: tuple[Rendered, ...]
    seen: int
    median: int
    longest: int
    learned: float
    cut: int
    limit: int

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON."""
        return asdict(self)

    def __str__(self) -> str:
        counts = f"{self.rows:,} rows to train on, {self.held:,} to evaluate on."
        lengths = (
            f"Of {self.seen:,} rows the median has {self.median} tokens, the longest "
            f"{self.longest}; {self.learned:.0%} of the tokens carry loss, in [[ ]] below. "
            f"{self.cut} are longer than {self.limit} tokens and would be cut."
        )
        rows = [f"row {place}: {own}" for place, own in enumerate(self.shown, 1)]
        return "\n\n".join([f"{counts}\n{lengths}", *rows])


def preview(recipe: Recipe, *, count: int = 3) -> Preview:
    """Every row of a recipe read and checked, and the first `count` of them rendered.

    Raises what training would raise about data and tokenizer; no weight is loaded.
    """
    task = make_task(recipe.task, recipe.data)
    checked = read_data(recipe.data, task, recipe.train.seed)
    tokenizer = load_tokenizer(recipe.model, recipe.data.end)
    config = load_config(recipe.model)
    some = Checked(checked.train[:SAMPLE], [])
    features, _ = encode(some, task, tokenizer, config, recipe.data)
    lengths = [_length(own) for own in features]
    learned = sum(_learned(own) for own in features)
    shown = tuple(_rendered(own, tokenizer, task) for own in features[:count])
    median = int(statistics.median(lengths))
    return Preview(
        len(checked.train), len(checked.eval), shown, len(features), median, max(lengths),
        learned / max(1, sum(lengths)), task.cut,
        longest_row(task, tokenizer, config, recipe.data),
    )  # fmt: skip


def tasks_for(options: DataOptions) -> list[str]:
    """The tasks that the first rows of some data fit, the most telling first.

    Raises the `DataError` of reading where the data cannot be read at all.
    """
    rows = split_rows(options, options.train, "train", LOOK)
    found = []
    for name in ("regression", "classification", "completion", "chat", "seq2seq", "text"):
        try:
            make_task(name, options).read(rows, training=True)
        except (DataError, RecipeError):
            continue
        found.append(name)
    return found


def _length(row: Features) -> int:
    return len(row["input_ids"]) + (len(row["labels"]) if _has_target(row) else 0)


def _learned(row: Features) -> int:
    labels = row["labels"]
    return sum(label != IGNORED for label in labels) if isinstance(labels, list) else 0


def _has_target(row: Features) -> bool:
    """Whether what is learned is a text of its own, and not a part of the one that is read."""
    labels = row["labels"]
    return isinstance(labels, list) and any(
        label not in (IGNORED, own)
        for label, own in itertools.zip_longest(labels, row["input_ids"])
    )


def _rendered(row: Features, tokenizer: Any, task: Any) -> Rendered:
    ids, labels = row["input_ids"], row["labels"]
    if not isinstance(labels, list):
        words = task.labels()
        answer = words[labels] if words else f"{labels:g}"
        return Rendered((Piece(tokenizer.decode(ids), len(ids), False),), answer)
    if _has_target(row):
        pieces = [(ids, False), (labels, True)]
    else:
        marked = zip(ids, (label != IGNORED for label in labels))
        groups = itertools.groupby(marked, key=lambda own: own[1])
        pieces = [([own[0] for own in group], learned) for learned, group in groups]
    return Rendered(
        tuple(Piece(tokenizer.decode(own), len(own), learned) for own, learned in pieces)
    )
