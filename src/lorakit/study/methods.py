"""Methods: every way to fine-tune, each at its best learning rate (Hu et al. 2021, tables 2, 3)."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lorakit.core.errors import LorakitError, PlanError, RecipeError, UnsupportedError
from lorakit.methods import method_named
from lorakit.models.plan import plan
from lorakit.study import methods_page
from lorakit.study.kinds import Cell, Figures, Record, Setting, Shown
from lorakit.study.measure import (
    OWN,
    drop_adapter,
    once,
    peaks,
    score_name,
    task_recipe,
    worth,
)
from lorakit.study.roster import ROSTER, entry_named
from lorakit.study.runs import check_evaluated, recipe_of, structure_of
from lorakit.study.train import train_cells
from lorakit.study.tune import LR, Budget, tune
from lorakit.train.recipe import Recipe

TUNING_SEED = 1000  # none of those that are measured


class Methods:
    """Methods on tasks over seeds, learning rates sought by the same budget for each."""

    name = "methods"
    title = "Methods: LoRA beside full fine-tuning and other ways to train less"
    why = (
        "Does LoRA reach full fine-tuning and other ways to train few parameters, when every "
        "method has its own best learning rate (Hu et al. 2021, tables 2 and 3)?"
    )
    trains = True
    grows = ("methods", "benchmarks", "seeds")

    def options(self, *, quick: bool) -> dict[str, Any]:
        """The `benchmarks`' files lie in the folder of the recipe's training rows.

        `split` and `rows` are of the questions that texts are written for, `reference` is what all
        others are tested against, and the rest is the budget of each search.
        """
        return {
            "methods": ["lora", "full", "bitfit"] if quick else list(ROSTER),
            "benchmarks": [OWN], "seeds": [0, 1] if quick else [0, 1, 2],
            "reference": "lora", "split": "test", "rows": 100 if quick else 1000,
            "trials": 3 if quick else 7, "rungs": [1.0] if quick else [0.5, 1.0], "keep": 3,
            "low": 1e-5, "high": 1e-1,
        }  # fmt: skip

    def cells(self, setting: Setting) -> list[Cell]:
        """Every seed of every method on every task."""
        recipe = recipe_of(setting)
        for name in setting.option("methods"):
            entry_named(name)
        if setting.option("reference") not in setting.option("methods"):
            raise RecipeError(
                f"study.reference is {setting.option('reference')!r}, which is none of the "
                "methods. Name one that is compared."
            )
        for task in setting.option("benchmarks"):
            _check_task(task_recipe(recipe, task))
        out = _left_out(setting)
        if setting.option("reference") in out:
            raise RecipeError(
                f"study.reference is {setting.option('reference')!r}, which this base cannot have: "
                f"{out[setting.option('reference')]}"
            )
        able = [own for own in setting.option("methods") if own not in out]
        return [
            Cell({"task": task, "method": method, "seed": seed})
            for task in setting.option("benchmarks")
            for method in able
            for seed in setting.option("seeds")
        ]

    def group(self, cell: Cell) -> Hashable:
        """The seeds of a method on a task, at the rate that was found for them."""
        return (cell.settings["task"], cell.settings["method"])

    def measure(
        self, cells: Sequence[Cell], setting: Setting, folder: Path
    ) -> Iterator[Figures | LorakitError]:
        """Seek the learning rate, train every seed, and score what came of it."""
        task, method = cells[0].settings["task"], cells[0].settings["method"]
        recipe = task_recipe(recipe_of(setting), task)
        overrides = entry_named(method).overrides
        place = folder / _plain(task) / _plain(method)
        tuned = tune(
            recipe, overrides, budget=_budget(setting), folder=place / "tune", seed=TUNING_SEED,
            quiet=setting.quiet,
        )  # fmt: skip
        runs = [
            {**overrides, **once(recipe), LR: tuned.lr, "train.seed": cell.settings["seed"]}
            for cell in cells
        ]
        split, rows = setting.option("split"), setting.option("rows")
        name, more = score_name(recipe)
        for own in train_cells(recipe, runs, place / "runs", quiet=setting.quiet):
            if isinstance(own, LorakitError):
                yield own
                continue
            found = worth(recipe, own, split=split, rows=rows)
            yield {
                "score": found[name], "metric": name, "more_is_better": more, "lr": tuned.lr,
                "at_edge": tuned.at_edge, "tuning_steps": tuned.steps, **found,
            }  # fmt: skip
            drop_adapter(own)

    def show(self, records: Sequence[Record], setting: Setting) -> Shown:
        """See `methods_page`."""
        seen = dict.fromkeys(own.settings["method"] for own in records)
        ways = {name: entry_named(name).overrides for name in seen}
        held = peaks(recipe_of(setting), setting.option("benchmarks"), ways)
        shown = methods_page.show(records, setting.option("reference"), held)
        out = [f"{name} is left out: {why}" for name, why in _left_out(setting).items()]
        return replace(shown, findings=[*shown.findings, *out])


def _check_task(recipe: Recipe) -> None:
    """Raise `RecipeError` for data by which no rate could be sought, or no run scored, fairly."""
    check_evaluated(recipe)
    if recipe.data.eval_share:
        raise RecipeError(
            "Learning rates are sought on rows held out of the training rows, and rows of "
            "data.eval_share, which are others for each seed, would be among them. Name evaluation "
            "rows of their own with data.eval."
        )


def _left_out(setting: Setting) -> dict[str, str]:
    """Methods that this base cannot have, and why; by its structure, without weights."""
    model = structure_of(task_recipe(recipe_of(setting), setting.option("benchmarks")[0]))
    found = {}
    for name in setting.option("methods"):
        own = entry_named(name)
        words, size = method_named(own.method).words(own.lora.get("rank", 1))
        try:
            plan(model, own.lora.get("targets", list(words)), size)
        except (PlanError, UnsupportedError) as error:
            found[name] = str(error)
    return found


def _budget(setting: Setting) -> Budget:
    return Budget(
        trials=setting.option("trials"), rungs=tuple(setting.option("rungs")),
        keep=setting.option("keep"), low=setting.option("low"), high=setting.option("high"),
    )  # fmt: skip


def _plain(word: str) -> str:
    return word.replace("/", "_").replace(":", "_").replace(" ", "_")
