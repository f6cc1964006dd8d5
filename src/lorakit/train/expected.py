"""The batches a recipe would train on: how long rows are, and how many tokens are learned."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from lorakit.core.errors import DataError, ModelError
from lorakit.models.load import load_tokenizer, read_config
from lorakit.models.places import places_of
from lorakit.models.rehearse import Batch
from lorakit.tasks import make_task
from lorakit.tasks.base import Task
from lorakit.tasks.data import longest_row, read_data, split_files
from lorakit.train.kept import Kept, rows_of
from lorakit.train.recipe import Recipe

LENGTH = 512  # tokens of a row where nothing says how long rows are
SAMPLE = 200  # rows that are tokenised to see how long they are
_LARGEST = 50e6  # bytes of files that are read to see it
_LABELLED = ("classification", "regression")


@dataclass(frozen=True)
class Expected:
    """A recipe's batch, where its length comes from, and what one pass over its rows holds.

    `tokens` are those that have a label, in all rows of one epoch; None where nobody has looked.
    """

    batch: Batch
    source: str
    rows: int | None = None
    tokens: int | None = None


def expected(recipe: Recipe, task: Task, config: Any) -> Expected:
    """What a recipe's rows say; they are read where their files are here, and not large."""
    batch = Batch(
        recipe.train.batch_size, full=task.name == "text" or recipe.train.batch_size == 1,
        passes=recipe.train.accumulate,
    )  # fmt: skip
    try:
        seen = _seen(recipe) if _near(recipe) else None
    except ModelError:  # a base without tokenizer: a plan needs none
        seen = None
    if seen is None:
        most = places_of(config) or 10**9
        said = recipe.data.max_length
        length = min(most, said or LENGTH)
        where = "data.max_length" if said else "assumed, as the data were not read"
        return Expected(replace(batch, length=length), where)
    rows, lengths, targets, counted = seen
    where = f"the longest of {len(lengths)} of {rows:,} rows"
    length = max(lengths)
    batch = replace(
        batch, length=length, targets=max(targets) if task.kind == "seq2seq" else None,
        full=batch.full or min(lengths) == length,
        counted=min(1.0, max(counted) / (length if task.kind == "causal" else max(targets)))
        if task.kind != "classes" else 1.0,
    )  # fmt: skip
    return Expected(batch, where, rows, round(sum(counted) / len(counted) * rows))


def _near(recipe: Recipe) -> bool:
    try:
        files = split_files(recipe.data, recipe.data.train, "train")
        return bool(files) and sum(file.stat().st_size for file in files) <= _LARGEST
    except (DataError, OSError):  # whoever trains on them says what is wrong
        return False


def _look(recipe: Recipe) -> tuple[int, list[int], list[int], list[int]] | None:
    """How many rows there are; of some of them tokens, labels, and labels that count."""
    task, config = make_task(recipe.task, recipe.data), read_config(recipe.model)
    tokenizer = load_tokenizer(recipe.model, recipe.data.end)
    rows = read_data(recipe.data, task, recipe.train.seed).train
    apart = 1 if task.name == "text" else max(1, len(rows) // SAMPLE)
    some = rows[::apart][:SAMPLE]
    features = task.encode(some, tokenizer, longest_row(task, tokenizer, config, recipe.data))
    if not features:
        return None
    labels = [row["labels"] if isinstance(row["labels"], list) else [1] for row in features]
    share = len(some) / len(rows) if task.name == "text" else 1.0
    count = round(len(features) / share) if task.name == "text" else len(rows)
    return (
        count,
        [len(row["input_ids"]) for row in features],
        [len(own) for own in labels],
        [sum(label >= 0 for label in own) for own in labels],
    )


_seen = Kept(_look, rows_of)
