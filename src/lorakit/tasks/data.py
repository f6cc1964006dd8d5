"""From a recipe's data to token ids: rows are checked first, the tokenizer comes later."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lorakit.core.errors import DataError, ModelError, RecipeError
from lorakit.models.places import places_of
from lorakit.tasks.base import Features, Task
from lorakit.tasks.benchmarks import benchmark_named
from lorakit.tasks.options import DataOptions
from lorakit.tasks.rows import Row, Source, data_files, has_split, read_rows

LONGEST = {"text": 512}  # else 1,024: blocks of text are always full, other rows rarely are
log = logging.getLogger("lorakit")


@dataclass
class Checked:
    """Rows that the task has checked, by split."""

    train: list[Any]
    eval: list[Any]


def read_data(options: DataOptions, task: Task, seed: int) -> Checked:
    """Read and check every row, or raise the `DataError` that names the file, row and field."""
    rows = split_rows(options, options.train, "train", options.train_rows)
    place = eval_place(options)
    held: list[Any] = []
    if place is not None:
        held = split_rows(options, place, "eval", options.eval_rows)
    elif options.eval_share:
        if task.name == "text" and len(rows) == 1:
            return _split_document(task.read(rows, training=True)[0], options.eval_share)
        rows, held = hold_out(rows, options.eval_share, seed)
    train = task.read(rows, training=True)
    return Checked(train, task.read(held, training=False) if held else [])


def eval_place(options: DataOptions) -> str | None:
    """Where the evaluation rows are: a place of their own, or the training folder's; else None."""
    if options.eval is not None or options.eval_share:
        return options.eval
    if options.benchmark:
        there = benchmark_named(options.benchmark).has(options.train, "eval")
    else:
        there = has_split(options.train, "eval")
    return options.train if there else None


def split_rows(options: DataOptions, place: str, split: str, limit: int | None = None) -> list[Row]:
    """The rows of a split, in the benchmark's format if the options name one; or `DataError`."""
    if options.benchmark:
        return benchmark_named(options.benchmark).read(place, split, limit)
    source = Source(options.encoding, tuple(options.columns or ()))
    return read_rows(place, split, source, limit)


def split_files(options: DataOptions, place: str, split: str) -> list[Path]:
    """The files that `split_rows` reads, for hashing; none for a hub dataset."""
    if options.benchmark:
        return benchmark_named(options.benchmark).find(place, split)
    return data_files(place, split)


def encode(
    checked: Checked, task: Task, tokenizer: Any, config: Any, options: DataOptions
) -> tuple[list[Features], list[Features]]:
    """All rows as token ids, none longer than the model or the recipe allows."""
    longest = longest_row(task, tokenizer, config, options)
    task.cut = 0
    train = task.encode(checked.train, tokenizer, longest)
    held = task.encode(checked.eval, tokenizer, longest) if checked.eval else []
    if task.cut:
        log.warning("%d rows are longer than %d tokens and were cut", task.cut, longest)
    size = getattr(config, "vocab_size", None)
    top = max(max(row["input_ids"], default=0) for row in train)
    if size is not None and top >= size:
        raise ModelError(
            f"The tokenizer makes the id {top}, but the model's vocabulary has {size} entries: "
            "they do not belong together."
        )
    return _learnable(train, longest), _learnable(held, longest)


def _learnable(rows: list[Features], longest: int) -> list[Features]:
    """The rows that have a label left: a batch of none would have no loss at all."""
    kept = [row for row in rows if not _without_loss(row["labels"])]
    if rows and not kept:
        raise DataError(
            f"Cut to {longest} tokens no row has anything left to learn. Raise data.max_length."
        )
    if len(kept) < len(rows):
        log.warning("%d rows have nothing left to learn and were left out", len(rows) - len(kept))
    return kept


def longest_row(task: Task, tokenizer: Any, config: Any, options: DataOptions) -> int:
    """The most tokens of a row: what the recipe says, within what the model can place."""
    places = [places_of(config), tokenizer.model_max_length]
    known = [place for place in places if isinstance(place, int) and 0 < place < 10**9]
    most = min(known, default=10**9)
    if options.max_length is None:
        return min(most, LONGEST.get(task.name, 1024))
    if options.max_length > most:
        raise RecipeError(
            f"data.max_length is {options.max_length}, but the base can place {most} tokens. Set "
            f"it to at most {most}."
        )
    return options.max_length


def hold_out(rows: list[Any], share: float, seed: int) -> tuple[list[Any], list[Any]]:
    """(rows to train on, rows held out), drawn by the seed; or `DataError` where none are left."""
    count = max(1, round(len(rows) * share))
    if count >= len(rows):
        raise DataError(
            f"data.eval_share={share} of {len(rows)} rows leaves none to train on. "
            "Name evaluation rows of their own with data.eval."
        )
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed)).tolist()
    held = sorted(order[:count])
    rest = sorted(order[count:])
    return [rows[place] for place in rest], [rows[place] for place in held]


def held_rows(rows: list[Row], task: Task, options: DataOptions, seed: int) -> list[Row]:
    """The rows that a run with these options held out; of a single text a row of its end."""
    if task.name != "text" or len(rows) != 1:
        return hold_out(rows, options.eval_share, seed)[1]
    held = _split_document(task.read(rows, training=True)[0], options.eval_share).eval[0]
    if options.text is not None:
        raise DataError(
            "The rows held out are the end of one text, and data.text makes it of fields. Name "
            "evaluation rows of their own with --data."
        )
    return [Row({"text": held}, rows[0].file, rows[0].number, rows[0].unit)]


def _split_document(text: str, share: float) -> Checked:
    """The one document there is, its end held out from the beginning of a line on."""
    cut = round(len(text) * (1 - share))
    cut = text.rfind("\n", 0, cut) + 1 or cut
    if not text[:cut].strip() or not text[cut:].strip():
        raise DataError(
            f"data.eval_share={share} of one document of {len(text)} characters leaves nothing to "
            "train or to evaluate on. Name evaluation rows of their own with data.eval."
        )
    return Checked([text[:cut]], [text[cut:]])


def _without_loss(labels: Any) -> bool:
    return isinstance(labels, list) and all(label < 0 for label in labels[1:])
