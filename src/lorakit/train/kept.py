"""What was worked out for a recipe, kept while recipe, base and rows stay the same.

A form asks again with every letter that is typed, and most of the answer is as it was before.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Generic, TypeVar

from lorakit.core.errors import LorakitError
from lorakit.tasks.data import eval_place, split_files
from lorakit.train.recipe import Recipe

# What a run does when, and how far it goes: shapes are the same for any of these.
PACE = frozenset((
    "steps", "epochs", "lr", "lora_plus", "schedule", "warmup", "weight_decay", "clip",
    "eval_every", "save_every", "keep", "keep_best", "patience", "device",
))  # fmt: skip
T = TypeVar("T")
MOST = 32  # answers; the one that was worked out first is forgotten first


class Kept(Generic[T]):
    """What `make` says of a recipe, which depends on the part of it that `about` gives."""

    def __init__(
        self, make: Callable[[Recipe], T], about: Callable[[Recipe], tuple[Hashable, ...]]
    ) -> None:
        self.make, self.about = make, about
        self.known: dict[Hashable, tuple[T]] = {}

    def __call__(self, recipe: Recipe) -> T:
        """The answer as it was, or else anew; what raises is not kept."""
        files = _files(recipe)
        if files is None:
            return self.make(recipe)
        # The marks are older than what is read, so that a change in between is seen the next time.
        key = (*self.about(recipe), *map(_mark, files))
        found = self.known.get(key)
        if found is None:
            found = self.known[key] = (self.make(recipe),)
            while len(self.known) > MOST:
                self.known.pop(next(iter(self.known)), None)
        return found[0]


def rows_of(recipe: Recipe) -> tuple[Hashable, ...]:
    """What decides how a recipe's rows read, become tokens, and are held out."""
    data, seed = recipe.data, recipe.train.seed
    return recipe.model, recipe.task, data.model_dump_json(), seed if data.eval_share else None


def shapes_of(recipe: Recipe) -> tuple[Hashable, ...]:
    """All of a recipe that decides the shapes of its steps."""
    return (recipe.model_dump_json(exclude={"output": True, "train": set(PACE)}),)


def _files(recipe: Recipe) -> list[Path] | None:
    """The files that answers depend on; None where not all are known, as those of hub datasets.

    A base of the hub has none here: what a page shows of it is that of its first reading.
    """
    base = Path(recipe.model).expanduser()
    try:
        held = eval_place(recipe.data)
        rows = split_files(recipe.data, recipe.data.train, "train")
        more = [] if held is None else split_files(recipe.data, held, "eval")
        own = sorted(base.iterdir()) if base.is_dir() else [base] if base.exists() else []
        template = Path(recipe.data.chat_template or "").expanduser()
        if not rows or (held is not None and not more):
            return None
        return [*rows, *more, *own, *([template] if template.is_file() else [])]
    except (LorakitError, OSError, ValueError):  # whoever reads them says what is wrong
        return None


def _mark(file: Path) -> Hashable:
    try:
        stat = os.stat(file)
    except OSError:
        return str(file)
    return str(file), stat.st_ino, stat.st_size, stat.st_mtime_ns
