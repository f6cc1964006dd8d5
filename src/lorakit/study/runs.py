"""Studies that train: settings times seeds, the seeds of a setting side by side."""

from __future__ import annotations

import statistics
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from lorakit.core.errors import LorakitError, RecipeError
from lorakit.models.load import empty_model
from lorakit.study.kinds import Cell, Figures, Record, Setting
from lorakit.study.ledger import key_of
from lorakit.study.measure import drop_adapter, once, score_name, worth
from lorakit.study.statistics import Interval, interval
from lorakit.study.train import KEPT, Trained, train_cells
from lorakit.tasks import make_task
from lorakit.tasks.data import read_data
from lorakit.train.recipe import Recipe

SEED = "seed"
SHARES = ("eval_accuracy", "eval_matthews", "eval_pearson", "eval_f1", "eval_spearman")


class Runs:
    """What studies of runs share: each says its settings, and what these set in the recipe.

    `kept` are files of a run that `looked` reads, besides those that are always there.
    """

    kept: tuple[str, ...] = ()
    trains = True

    def settings(self, setting: Setting) -> list[dict[str, Any]]:
        """What is varied, without the seeds, in order."""
        raise NotImplementedError

    def overrides(self, settings: Mapping[str, Any], setting: Setting) -> dict[str, Any]:
        """Fields of the recipe for one of the settings."""
        raise NotImplementedError

    def cells(self, setting: Setting) -> list[Cell]:
        """Every seed of every setting."""
        recipe_of(setting)
        return [
            Cell({**own, SEED: seed})
            for own in self.settings(setting)
            for seed in setting.option("seeds")
        ]

    def group(self, cell: Cell) -> Hashable:
        """The seeds of a setting."""
        return key_of(varied(cell.settings))

    def measure(
        self, cells: Sequence[Cell], setting: Setting, folder: Path
    ) -> Iterator[Figures | LorakitError]:
        """Train every seed, and score what came of it."""
        recipe = recipe_of(setting)
        runs = [
            {
                **once(recipe), **self.overrides(varied(cell.settings), setting),
                "train.seed": cell.settings[SEED],
            }
            for cell in cells
        ]  # fmt: skip
        name, more = score_name(recipe)
        for own in train_cells(recipe, runs, folder, keep=(*KEPT, *self.kept), quiet=setting.quiet):
            if isinstance(own, LorakitError):
                yield own
                continue
            found = worth(recipe, own, split="test", rows=1000)
            yield {
                "score": found[name], "metric": name, "more_is_better": more, **found,
                **self.looked(own),
            }  # fmt: skip
            drop_adapter(own)

    def looked(self, own: Trained) -> Figures:
        """What else is read from a run before its adapter goes."""
        del own
        return {}


def recipe_of(setting: Setting) -> Recipe:
    """The recipe of a study that trains, or `RecipeError`."""
    if setting.recipe is None:
        raise RecipeError("Nothing to train: pass a recipe, and no adapters.")
    if setting.recipe.train.steps is None:
        raise RecipeError("Runs are compared at equal steps: set train.steps in the recipe.")
    return setting.recipe


def structure_of(setting: Setting) -> nn.Module:
    """The recipe's base without weights, with the head that its data ask for."""
    recipe = recipe_of(setting)
    task = make_task(recipe.task, recipe.data)
    if task.kind == "classes":
        read_data(recipe.data, task, recipe.train.seed)
    return empty_model(recipe.model, task.kind, task.labels())


def varied(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings without the seed."""
    return {name: value for name, value in settings.items() if name != SEED}


def by_setting(records: Sequence[Record]) -> dict[str, list[Record]]:
    """The seeds of each setting, by its key, in order."""
    found: dict[str, list[Record]] = {}
    for own in records:
        found.setdefault(key_of(varied(own.settings)), []).append(own)
    return found


def scored(records: Sequence[Record]) -> Interval:
    """The mean score over seeds with its interval; shares times 100."""
    return interval([score(own) for own in records])


def score(record: Record) -> float:
    """The score as tables have it."""
    return record.figures["score"] * (100 if record.figures["metric"] in SHARES else 1)


def better(records: Sequence[Record]) -> bool:
    """Whether more of the score is better."""
    return bool(records[0].figures["more_is_better"])


def metric(records: Sequence[Record]) -> str:
    """The score's name for headings and axes, with its unit."""
    name = str(records[0].figures["metric"])
    words = {"eval_loss": "evaluation loss (nats per token)", "eval_accuracy": "accuracy (%)"}
    return words.get(name, name.removeprefix("eval_") + (" (%)" if name in SHARES else ""))


def mean_of(records: Sequence[Record], name: str) -> float:
    """The mean of a figure over seeds."""
    return statistics.fmean(own.figures[name] for own in records)
