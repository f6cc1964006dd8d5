"""Many runs out of one recipe: what studies that train are made of."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lorakit.core.errors import LorakitError, RecipeError, ResumeError, Stopped
from lorakit.train.expand import label
from lorakit.train.identity import FILE
from lorakit.train.recipe import Recipe, make_recipe, set_field
from lorakit.train.record import EVENTS
from lorakit.train.run import METRICS
from lorakit.train.sweep import train_runs

ADAPTER, RECIPE = "adapter", "recipe.yaml"
KEPT = (ADAPTER, EVENTS, METRICS, RECIPE, FILE, "log.txt")
_LONGEST = 100  # characters of a folder's name


@dataclass(frozen=True)
class Trained:
    """A run that is done: its settings, what it measured, and its folder."""

    overrides: Mapping[str, Any]
    metrics: dict[str, Any]
    folder: Path

    @property
    def adapter(self) -> Path:
        """The folder of its adapter."""
        return self.folder / ADAPTER


def train_cells(
    recipe: Recipe, overrides: Sequence[Mapping[str, Any]], folder: Path, *,
    keep: Collection[str] = KEPT, quiet: bool = False,
) -> list[Trained | LorakitError]:  # fmt: skip
    """Train the recipe once for each of the overrides, fields by their dotted names.

    Runs that can share a base go side by side. Each has a folder inside `folder`, which in the end
    holds only what `keep` names; `metrics.json` and the recipe always stay, so that a run that is
    there is not trained again, and one that was stopped goes on from its checkpoint. What fails
    for one alone is in its place. Raises `RecipeError` for overrides that no recipe can have.
    """
    recipes = [overridden(recipe, own, folder) for own in overrides]
    for own in recipes if ADAPTER in keep else ():
        _forget_emptied(own)
    if len({own.output for own in recipes}) < len(recipes):
        raise RecipeError("Two runs of a study have the same settings. Name each of them once.")
    waiting = [own for own in recipes if finished(own) is None]
    failed = {
        own.output: ended
        for own, ended in zip(waiting, _train(waiting, quiet=quiet))
        if isinstance(ended, LorakitError)
    }
    found: list[Trained | LorakitError] = []
    for chosen, own in zip(overrides, recipes):
        if own.output in failed:
            found.append(failed[own.output])
            continue
        place = Path(own.output)
        _prune(place, {*keep, METRICS, RECIPE, FILE})
        metrics = finished(own)
        assert metrics is not None
        found.append(Trained(chosen, metrics, place))
    return found


def overridden(recipe: Recipe, overrides: Mapping[str, Any], folder: Path) -> Recipe:
    """The recipe with dotted fields set over it, and an output in `folder` named by these."""
    raw = json.loads(json.dumps(recipe.model_dump(exclude={"sweep"})))
    for field, value in overrides.items():
        set_field(raw, field, value)
    raw["output"] = str(folder / folder_name(overrides))
    return make_recipe(raw, "study")


def folder_name(overrides: Mapping[str, Any]) -> str:
    """A name for a run's folder: its settings, cut and told apart by a hash where they are long."""
    text = label(overrides) or "recipe"
    if len(text) <= _LONGEST:
        return text
    told = hashlib.sha256(json.dumps(overrides, sort_keys=True).encode()).hexdigest()[:12]
    return f"{text[: _LONGEST - 13]}-{told}"


def finished(recipe: Recipe) -> dict[str, Any] | None:
    """The metrics of a run that is done, or None; `ResumeError` where they are of another run."""
    place = Path(recipe.output)
    try:
        metrics = json.loads((place / METRICS).read_text(encoding="utf-8"))
        told = yaml.safe_load((place / RECIPE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    if placeless(told) != placeless(yaml.safe_load(recipe.dump())):
        raise ResumeError(f"{place} holds a run of another recipe. Choose another folder.")
    return metrics


def placeless(told: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe without the places of base, rows and run, whose contents the study compares."""
    data = {k: v for k, v in told["data"].items() if k not in ("train", "eval")}
    rest = {k: v for k, v in told.items() if k not in ("model", "output", "sweep")}
    return {**rest, "data": data}


def _forget_emptied(recipe: Recipe) -> None:
    """Forget a run that is done and has no adapter any more: it was measured, and is asked anew."""
    place = Path(recipe.output)
    if finished(recipe) is not None and not (place / ADAPTER).exists():
        shutil.rmtree(place)


def _train(recipes: Sequence[Recipe], *, quiet: bool) -> list[Any]:
    """Train runs; where they cannot even begin together, each one alone, to see which it is."""
    if not recipes:
        return []
    try:
        return train_runs(recipes, resume=True, quiet=quiet)
    except Stopped:
        raise
    except LorakitError as error:
        if len(recipes) == 1:
            return [error]
        return [ended for own in recipes for ended in _train([own], quiet=quiet)]


def _prune(folder: Path, keep: Collection[str]) -> None:
    for path in folder.iterdir():
        if path.name in keep:
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
