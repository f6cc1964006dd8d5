"""Studies that train: settings times seeds, the seeds of a setting side by side."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from lorakit.core.errors import LorakitError, RecipeError
from lorakit.models.load import empty_model
from lorakit.study.contrast import SEED, varied
from lorakit.study.kinds import Cell, Figures, Setting
from lorakit.study.ledger import key_of
from lorakit.study.measure import drop_adapter, once, score_name, worth
from lorakit.study.train import KEPT, Trained, train_cells
from lorakit.tasks import make_task
from lorakit.tasks.data import eval_place, read_data
from lorakit.train.recipe import Recipe


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
        check_evaluated(recipe_of(setting))
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


def check_evaluated(recipe: Recipe) -> None:
    """Raise `RecipeError` for a recipe whose runs would have no score."""
    if not recipe.data.eval_share and eval_place(recipe.data) is None:
        raise RecipeError("Nothing to evaluate on: set data.eval or data.eval_share.")


def structure_of(recipe: Recipe) -> nn.Module:
    """The recipe's base without weights, with the head that its data ask for."""
    task = make_task(recipe.task, recipe.data)
    if task.kind == "classes":
        read_data(recipe.data, task, recipe.train.seed)
    return empty_model(recipe.model, task.kind, task.labels())
