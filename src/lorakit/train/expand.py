"""From a recipe with a sweep to one recipe for each run."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lorakit.core.errors import RecipeError
from lorakit.train.recipe import Recipe, get_field, make_recipe, set_field


def expand(recipe: Recipe) -> list[tuple[dict[str, Any], Recipe]]:
    """The settings and the recipe of every run, in the order in which the values are named."""
    raw = recipe.model_dump()
    named = raw.pop("sweep")
    found = []
    for values in itertools.product(*named.values()):
        own = json.loads(json.dumps(raw))
        for field, value in zip(named, values):
            set_field(own, field, value)
        checked = make_recipe(own, "sweep").model_dump()
        settings = {field: get_field(checked, field) for field in named}
        checked["output"] = str(Path(recipe.output).expanduser() / label(settings))
        found.append((settings, make_recipe(checked)))
    if len({one.output for _, one in found}) < len(found):
        raise RecipeError("sweep: two runs would have the same values. Name each value once.")
    return found


def label(settings: Mapping[str, Any]) -> str:
    """The settings by field as the name of a folder, fields by their last words where these do."""
    leaves = [field.rpartition(".")[2] for field in settings]
    short = [leaf if leaves.count(leaf) == 1 else field for leaf, field in zip(leaves, settings)]
    return ",".join(f"{n}={_plain(v)}" for n, v in zip(short, settings.values()))


def _plain(value: Any) -> str:
    """A value as part of a folder's name."""
    text = value if isinstance(value, str) else json.dumps(value)
    return re.sub(r"[^\w.+-]+", "_", text)[:60]
