"""What one trained run is worth: its score by the task's own metric, what it costs, and when."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lorakit.core.errors import DataError, LorakitError
from lorakit.eval.evaluate import Who, evaluate
from lorakit.eval.marks import SLOTS, lacks
from lorakit.eval.subject import What
from lorakit.formats.manifest import MANIFEST
from lorakit.study.kinds import Figures
from lorakit.study.train import Trained, overridden
from lorakit.tasks import make_task
from lorakit.tasks.benchmarks import benchmark_named
from lorakit.train.forecast import Question, forecast
from lorakit.train.recipe import Recipe, make_recipe

OWN = "own data"  # the name of a recipe's data, where it is no benchmark


def task_recipe(recipe: Recipe, benchmark: str) -> Recipe:
    """The recipe turned to a benchmark, whose files lie in the folder of its training rows."""
    if benchmark == OWN:
        return recipe
    raw = recipe.model_dump()
    raw["task"] = benchmark_named(benchmark).tasks[0]
    kept = {name: raw["data"][name] for name in ("train", "train_rows", "eval_rows", "max_length")}
    raw["data"] = {**kept, "benchmark": benchmark}
    return make_recipe(raw, f"study on {benchmark}")


def once(recipe: Recipe) -> dict[str, Any]:
    """Fields by which a run ends with its last state and is evaluated then: no choice by luck."""
    steps = recipe.train.steps
    return {
        "train.eval_every": steps, "train.save_every": steps, "train.keep_best": False,
        "train.patience": None,
    }  # fmt: skip


def score_name(recipe: Recipe) -> tuple[str, bool]:
    """The figure that a recipe's runs are compared by, and whether more of it is better."""
    written = _written(recipe)
    if written:
        return written[0], written[0] != "ter"
    name, more = make_task(recipe.task, recipe.data).best
    return f"eval_{name}", more


def worth(recipe: Recipe, own: Trained, *, split: str, rows: int) -> Figures:
    """The metrics of a run, with those of answers it writes where its benchmark asks for them.

    Its adapter's parameters are counted with a new head, where it has one.
    """
    told = json.loads((own.adapter / MANIFEST).read_text(encoding="utf-8"))
    found = {**own.metrics, "parameters": told["adapter"]["parameters"]}
    metrics = _written(recipe)
    if metrics:
        what = What(benchmark=recipe.data.benchmark, data=recipe.data.train, split=split,
                    metrics=tuple(metrics), rows=rows, batch_size=32)  # fmt: skip
        who = Who((str(own.folder),), recipe.model, precision=recipe.train.precision, device="cpu")
        voice = evaluate(who, what, quiet=True).voices[0]
        found |= {name: one.value for name, one in voice.figures.items() if name not in found}
    return found


def peaks(
    recipe: Recipe, benchmarks: Sequence[str], ways: Mapping[str, Mapping[str, Any]]
) -> dict[str, int]:
    """The most bytes that a run would hold with each of the overrides, where shapes tell it.

    Of the benchmarks the one with the longest rows is taken. Empty where rows that decide the
    shapes are gone.
    """
    try:
        tasks = [task_recipe(recipe, name) for name in benchmarks]
        longest = max(tasks, key=lambda own: Question(own).expected.batch.length)
        found = {
            name: forecast(Question(overridden(longest, own, Path("unused"))), full=False).peak
            for name, own in ways.items()
        }
    except DataError:
        return {}
    return {name: peak for name, peak in found.items() if peak is not None}


def drop_adapter(own: Trained | LorakitError) -> None:
    """Delete the adapter of a run that is measured: many of them are as large as the base."""
    if isinstance(own, Trained):
        shutil.rmtree(own.adapter, ignore_errors=True)


def _written(recipe: Recipe) -> list[str]:
    """The metrics of texts that a benchmark of the recipe has and this machine can make."""
    name = recipe.data.benchmark
    if name is None or recipe.task not in ("completion", "seq2seq", "chat"):
        return []
    known = [one for one in benchmark_named(name).metrics if lacks(one) is None]
    return [*(one for one in known if one != SLOTS), *(one for one in known if one == SLOTS)]
