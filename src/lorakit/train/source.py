"""Where runs get their rows and their base from: each for itself, or several from one place."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import torch

from lorakit.core.errors import RecipeError
from lorakit.core.site import own_parameters
from lorakit.models.load import Base, load_base, load_config
from lorakit.tasks import make_task
from lorakit.tasks.base import Features, Task
from lorakit.tasks.data import Checked, encode, read_data
from lorakit.train.identity import hash_data
from lorakit.train.recipe import Recipe

Encoded = tuple[list[Features], list[Features]]


@dataclass
class Rows:
    """A recipe's task with its rows, checked, and the hashes of their files."""

    task: Any
    checked: Checked
    hashes: dict[str, Any]


def checked_rows(recipe: Recipe, task: Task) -> Checked:
    """The rows of a recipe, or a `RecipeError` where it looks at evaluations and has none."""
    checked = read_data(recipe.data, task, recipe.train.seed)
    if recipe.train.patience and not checked.eval:
        raise RecipeError(
            "train.patience needs evaluations, and there are no evaluation rows. Set data.eval or "
            "data.eval_share."
        )
    return checked


class Source:
    """What a lone run reads."""

    def rows(self, recipe: Recipe) -> Rows:
        """The rows of a recipe."""
        task = make_task(recipe.task, recipe.data)
        return Rows(task, checked_rows(recipe, task), hash_data(recipe))

    def encoded(self, recipe: Recipe, rows: Rows, tokenizer: Any) -> Encoded:
        """The rows as token ids."""
        config = load_config(recipe.model)
        return encode(rows.checked, rows.task, tokenizer, config, recipe.data)

    def base(self, *args: Any, **options: Any) -> Base:
        """As `load_base`."""
        return load_base(*args, **options)


class Shared(Source):
    """What several runs read: equal rows once, and one base for all of them.

    The base is the same model each time, as a new load would have left it. What no checkpoint has
    weights for, such as a new head, is drawn at each load, by the run's own seed: there a second
    base is loaded, and given back when these values are copied. A run that asks for another base,
    such as one with other labels, gets that, which then is the one.
    """

    def __init__(self) -> None:
        self.read: dict[str, Rows] = {}
        self.ids: dict[tuple[int, Any], Encoded] = {}
        self.loaded: Base | None = None
        self.asked: Any = None
        self.draws = False

    def rows(self, recipe: Recipe) -> Rows:
        """The rows of a recipe, which do not depend on its seed unless some are held out."""
        seed = recipe.train.seed if recipe.data.eval_share else None
        key = json.dumps([recipe.task, recipe.data.model_dump(), seed])
        if key not in self.read:
            self.read[key] = super().rows(recipe)
        return self.read[key]

    def encoded(self, recipe: Recipe, rows: Rows, tokenizer: Any) -> Encoded:
        """The rows as token ids."""
        key = (id(rows), tokenizer.eos_token)
        if key not in self.ids:
            self.ids[key] = super().encoded(recipe, rows, tokenizer)
        return self.ids[key]

    def base(self, *args: Any, **options: Any) -> Base:
        """The one base."""
        before = torch.get_rng_state()
        if self.loaded is None or self.asked != (args, options):
            self.asked = (args, options)
            self.loaded = super().base(*args, **options)
            self.draws = not torch.equal(before, torch.get_rng_state())
        elif self.draws:
            other = super().base(*args, **options)
            for path in self.loaded.fresh:
                mine = own_parameters(self.loaded.model.get_submodule(path))
                with torch.no_grad():
                    for name, value in own_parameters(other.model.get_submodule(path)).items():
                        mine[name].copy_(value)
        return self.loaded
