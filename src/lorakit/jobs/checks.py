"""What is wrong with a recipe, said before it waits for hours and then fails."""

from __future__ import annotations

import json
import os
from pathlib import Path

from lorakit.core.errors import SaveError
from lorakit.train.expand import expand
from lorakit.train.folder import IDENTITY, check_free
from lorakit.train.recipe import Recipe


def check_recipe(recipe: Recipe) -> None:
    """Raise what `lorakit train` would raise before it loads the base.

    Outputs are free and can be written, the base's folder is one, and every row can be used. Rows
    of a hub dataset are left to the run, as they may have to be downloaded.
    """
    runs = [own for _, own in expand(recipe)] if recipe.sweep else [recipe]
    check_outputs(recipe)
    for name in {own.model for own in runs}:
        _check_model(name)
    seen = set()
    for own in runs:
        seed = own.train.seed if own.data.eval_share else None
        key = json.dumps([own.task, own.data.model_dump(), seed])
        if key not in seen:
            seen.add(key)
            _check_rows(own)


def check_outputs(recipe: Recipe) -> None:
    """Raise `SaveError` unless the recipe's output is free, those of a sweep's runs included."""
    whole = Path(recipe.output).expanduser()
    if not recipe.sweep:
        check_free(whole)
    elif (whole / IDENTITY).exists():
        raise SaveError(f"{whole} holds a run, and no sweep. Choose another output.")
    else:
        for _, own in expand(recipe):
            check_free(Path(own.output).expanduser())
    there = next(path for path in (whole, *whole.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise SaveError(
            f"{whole} cannot be written: {there} is no folder of yours. Choose another."
        )


def _check_model(name: str) -> None:
    from lorakit.models.load import check_folder

    check_folder(name)


def _check_rows(recipe: Recipe) -> None:
    from lorakit.tasks import make_task
    from lorakit.tasks.data import eval_place
    from lorakit.tasks.rows import is_hub_id
    from lorakit.train.source import checked_rows

    places = (recipe.data.train, eval_place(recipe.data))
    if any(p is not None and not Path(p).expanduser().exists() and is_hub_id(p) for p in places):
        return
    checked_rows(recipe, make_task(recipe.task, recipe.data))
