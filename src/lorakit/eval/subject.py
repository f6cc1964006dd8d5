"""What an evaluation is about: the task, the rows, the metrics, chosen before a base is loaded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from lorakit.core.errors import RecipeError, did_you_mean
from lorakit.eval.generate import Decoding
from lorakit.eval.marks import check, lacks
from lorakit.eval.questions import ASKED, group_rows
from lorakit.tasks import TASKS, make_task
from lorakit.tasks.benchmarks import benchmark_named
from lorakit.tasks.classification import ClassificationTask
from lorakit.tasks.data import eval_place, held_rows, split_rows
from lorakit.tasks.options import DataOptions
from lorakit.tasks.rows import Row

HELD_OUT = "held out"  # the rows that a run kept from its training by a share
KEPT = ("max_length", "end")  # of a recipe's data, where another benchmark is asked


@dataclass(frozen=True)
class What:
    """What is evaluated on, and how; what is left open is as in the first adapter's recipe.

    `rows` takes the first so many: questions with all their references where there are some.
    `metrics` are of `lorakit.metrics`; else the benchmark's, for which answers are written.
    """

    data: str | None = None
    benchmark: str | None = None
    split: str | None = None
    task: str | None = None
    metrics: tuple[str, ...] | None = None
    rows: int | None = None
    batch_size: int = 16
    decoding: Decoding = field(default_factory=Decoding)


@dataclass(frozen=True)
class Subject:
    """The rows to evaluate on, those of one question together, and the metrics of texts.

    `options` and `labels` are those of each adapter, or of the base where there is no adapter.
    """

    task: str
    options: list[DataOptions]
    labels: list[str] | None
    place: str
    split: str
    rows: list[Row]
    groups: list[list[int]]
    metrics: tuple[str, ...]
    notes: list[str]

    def make_task(self, number: int) -> Any:
        """The task of the adapter with this number, with the labels it was trained with."""
        return _task(self.task, self.options[number], self.labels)

    def digest(self) -> str:
        """The sha256 of all rows' fields, in their order."""
        told = json.dumps([row.fields for row in self.rows], sort_keys=True, default=str)
        return hashlib.sha256(told.encode()).hexdigest()


def choose(runs: Sequence[dict[str, Any]], what: What) -> Subject:
    """The subject for adapters with these records of their runs; none of them is the base alone.

    Raises `RecipeError` where nothing says what to evaluate on, and `DataError` for its rows.
    """
    recipes = [run.get("recipe") or {} for run in runs] or [{}]
    name = _task_name(recipes, what)
    labels = _labels(runs, name)
    place, split = _place(recipes[0], what)
    options = [_options(recipe, what, place) for recipe in recipes]
    first = _task(name, options[0], labels)
    rows = _rows(recipes[0], options[0], first, what, place, split)
    groups = group_rows(rows, first)
    if what.rows is not None and what.rows < len(groups):
        rows, groups = _first(rows, groups[: what.rows])
    metrics, notes = _metrics(name, options[0], what)
    if options[0].benchmark is not None and split != HELD_OUT:
        split = benchmark_named(options[0].benchmark).split(split)  # by its own name
    return Subject(name, options, labels, place, split, rows, groups, metrics, notes)


def _task_name(recipes: Sequence[dict[str, Any]], what: What) -> str:
    known = sorted({recipe["task"] for recipe in recipes if recipe.get("task")})
    if what.task is not None and what.task not in TASKS:
        hint = did_you_mean(what.task, TASKS) or f" Known are {', '.join(TASKS)}."
        raise RecipeError(f"The task is {what.task!r}, which there is not.{hint}")
    if what.task is None and len(known) > 1:
        raise RecipeError(
            f"The adapters are of different tasks ({', '.join(known)}). Evaluate them apart."
        )
    if what.task is not None or known:
        return what.task or known[0]
    if what.benchmark is not None:
        return benchmark_named(what.benchmark).tasks[0]
    raise RecipeError(
        "Nothing says what the task is: no adapter here has a recipe. Pass --benchmark NAME or "
        "--task NAME."
    )


def _labels(runs: Sequence[dict[str, Any]], task: str) -> list[str] | None:
    if task != ClassificationTask.name:
        return None
    found = [list(run["labels"]) for run in runs if run.get("labels")]
    if not found:
        raise RecipeError(
            "No adapter here tells its labels, so its answers cannot be named. Evaluate an adapter "
            "that lorakit trained."
        )
    if any(other != found[0] for other in found):
        raise RecipeError("The adapters have different labels. Evaluate them apart.")
    return found[0]


def _place(recipe: dict[str, Any], what: What) -> tuple[str, str]:
    if what.data is not None:
        return what.data, what.split or "eval"
    if not recipe.get("data"):
        raise RecipeError("Nothing says what to evaluate on. Pass --data FILE_OR_FOLDER.")
    options = _checked(recipe["data"])
    if what.split is not None:
        return options.train, what.split
    place = eval_place(options)
    if place is None and not options.eval_share:
        raise RecipeError(
            "The adapter's run had no evaluation rows. Name some with --data FILE_OR_FOLDER."
        )
    return (options.train, HELD_OUT) if place is None else (place, "eval")


def _options(recipe: dict[str, Any], what: What, place: str) -> DataOptions:
    said = dict(recipe.get("data") or {})
    if what.benchmark is not None and what.benchmark != said.get("benchmark"):
        said = {key: said[key] for key in KEPT if key in said} | {"benchmark": what.benchmark}
    return _checked({**said, "train": said.get("train", place)})


def _checked(said: dict[str, Any]) -> DataOptions:
    try:
        return DataOptions.model_validate(said)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise RecipeError(
            f"The adapter's recipe has data that are not understood: {first['loc']}: "
            f"{first['msg']}. Train it anew, or use the version of lorakit that did."
        ) from error


def _rows(
    recipe: dict[str, Any], options: DataOptions, task: Any, what: What, place: str, split: str
) -> list[Row]:
    if split == HELD_OUT:
        seed = (recipe.get("train") or {}).get("seed", 0)
        rows = split_rows(options, place, "train", options.train_rows)
        return held_rows(rows, task, options, seed)
    own = what.data is None and what.split is None
    return split_rows(options, place, split, options.eval_rows if own else None)


def _first(rows: list[Row], groups: list[list[int]]) -> tuple[list[Row], list[list[int]]]:
    kept = sorted(place for group in groups for place in group)
    fresh = {place: at for at, place in enumerate(kept)}
    return [rows[place] for place in kept], [[fresh[p] for p in group] for group in groups]


def _metrics(task: str, options: DataOptions, what: What) -> tuple[tuple[str, ...], list[str]]:
    """The metrics of texts, and what must be said of those that are not to be had."""
    if what.metrics is not None:
        if what.metrics and task not in ASKED:
            raise RecipeError(
                f"Metrics of texts are for {', '.join(ASKED)}; {task} has metrics of its own. "
                "Leave out --metrics."
            )
        for name in what.metrics:
            check(name)
        return what.metrics, []
    if options.benchmark is None or task not in ASKED:
        return (), []
    found, notes = [], []
    for name in benchmark_named(options.benchmark).metrics:
        reason = lacks(name)
        if reason is None:
            found.append(name)
        else:
            notes.append(f"{name} is left out: {reason}")
    return tuple(found), notes


def _task(name: str, options: DataOptions, labels: list[str] | None) -> Any:
    task = make_task(name, options)
    if isinstance(task, ClassificationTask) and labels is not None:
        task.known = list(labels)
    return task
