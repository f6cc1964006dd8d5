"""A run's ranks: as the recipe gives them, or dealt out under a budget and kept in its folder."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from lorakit.core.errors import ODDITIES, RecipeError, ResumeError
from lorakit.core.folder import write_whole
from lorakit.core.plan import Plan
from lorakit.models.allocate import Allocation, allocate
from lorakit.tasks.base import Features
from lorakit.train.adalora import prunes, ranks_left
from lorakit.train.heatmap import draw_heatmap
from lorakit.train.recipe import Recipe
from lorakit.train.start import chosen_plan, drawn, own_words

FILE = "plan.json"
PICTURE = "ranks.png"
log = logging.getLogger("lorakit")


def ranks_of(
    recipe: Recipe, model: Any, rows: list[Features], padding: int, *, begun: Path | None
) -> Plan:
    """The recipe's plan on this base; a run that was `begun` in a folder keeps the one it has.

    Scores of another machine may differ in their last bits, and ranks with them: what is resumed
    is not dealt out again.
    """
    options = recipe.lora
    if options.params is None:
        return chosen_plan(recipe, model)
    known = None if begun is None else read_plan(begun)
    if known is not None:
        return known
    return allocate(
        model, own_words(recipe), params=options.params, by=options.by,
        batches=drawn(recipe, model, rows, padding),
    )  # fmt: skip


def ranks_forecast(recipe: Recipe, model: Any) -> Plan:
    """The recipe's plan on a base without weights; `RecipeError` where weights would decide."""
    options = recipe.lora
    if options.params is None:
        return chosen_plan(recipe, model)
    if options.by != "uniform":
        raise RecipeError(
            f"lora.by {options.by} deals {options.params:,} parameters out by weights and data, "
            "which no forecast reads. Run lorakit train, whose plan.json has the ranks, or "
            "forecast with --lora.by uniform."
        )
    return allocate(model, own_words(recipe), params=options.params, by=options.by)


def read_plan(folder: Path) -> Allocation | None:
    """The allocation that a run's folder holds, or None; `ResumeError` where it is damaged."""
    try:
        return Allocation.from_dict(json.loads((folder / FILE).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except ODDITIES as error:
        raise ResumeError(
            f"{folder / FILE} is damaged: {error!r}. Start again in a new folder."
        ) from error


def write_plan(folder: Path, chosen: Allocation) -> None:
    """Write the allocation and a picture of its ranks."""
    write_whole(folder / FILE, (json.dumps(chosen.as_dict(), indent=1) + "\n").encode())
    draw_heatmap(chosen, folder / PICTURE, title=chosen.summary(), label="rank")


def tell_pruned(folder: Path, model: Any, adapter: str) -> None:
    """Say which ranks AdaLoRA left, and draw them; nothing for other methods."""
    if not prunes(model, adapter):
        return
    left = ranks_left(model, adapter)
    line = (
        f"{sum(left.values())} ranks left by adalora: {min(left.values())} to "
        f"{max(left.values())} in each of {len(left)} targets"
    )
    log.info("%s", line)
    draw_heatmap(left, folder / PICTURE, title=line, label="rank")
