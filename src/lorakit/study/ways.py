"""The ways to answer that the latency study compares: one line adds a method."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lorakit.core.errors import RecipeError, did_you_mean
from lorakit.core.merge import merge
from lorakit.methods.inject import inject
from lorakit.methods.lora import LoRA
from lorakit.models.plan import plan


@dataclass(frozen=True)
class Place:
    """Where a method goes, and its size."""

    targets: Sequence[str]
    rank: int


def bare(model: Any, place: Place) -> None:
    """The base as it is."""


def unmerged(model: Any, place: Place) -> None:
    """LoRA beside the base's weights."""
    chosen = plan(model, targets=list(place.targets), rank=place.rank)
    inject(model, chosen, method=LoRA(alpha=2.0 * place.rank))


def merged(model: Any, place: Place) -> None:
    """LoRA merged into the base's weights."""
    unmerged(model, place)
    merge(model, "default")


BASE = "base"
WAYS: dict[str, Callable[[Any, Place], None]] = {
    BASE: bare, "base again": bare, "merged": merged, "unmerged": unmerged,
}  # fmt: skip


def way_named(name: str) -> Callable[[Any, Place], None]:
    """The way of this name, or `RecipeError` with the nearest known one."""
    if name not in WAYS:
        raise RecipeError(
            f"{name!r} is no way to answer: {', '.join(WAYS)}.{did_you_mean(name, WAYS)}"
        )
    return WAYS[name]
