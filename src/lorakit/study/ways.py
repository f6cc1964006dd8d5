"""The ways to answer that the latency study compares: one line adds a method."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lorakit.core.errors import RecipeError, did_you_mean
from lorakit.core.merge import merge
from lorakit.methods.bottleneck import Houlsby, Pfeiffer
from lorakit.methods.inject import inject
from lorakit.methods.lora import LoRA
from lorakit.methods.prefix import PrefixTuning
from lorakit.models.plan import plan


@dataclass(frozen=True)
class Place:
    """Where LoRA goes and its rank, and the `width` of bottlenecks; a prefix has as many tokens."""

    targets: Sequence[str]
    rank: int
    width: int = 16


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


def adapter_l(model: Any, place: Place) -> None:
    """A bottleneck behind the feed-forward part of each block (Lin et al. 2020)."""
    words, width = Pfeiffer.words(place.width)
    inject(model, plan(model, targets=list(words), rank=width), method=Pfeiffer())


def adapter_h(model: Any, place: Place) -> None:
    """Bottlenecks of half the width behind attention and feed-forward (Houlsby et al. 2019).

    So both have as many parameters, as in table 1 of the paper.
    """
    words, width = Houlsby.words(max(1, place.width // 2))
    inject(model, plan(model, targets=list(words), rank=width), method=Houlsby())


def prefix(model: Any, place: Place) -> None:
    """Keys and values before those of each attention (Li & Liang 2021)."""
    words, tokens = PrefixTuning.words(place.width)
    inject(model, plan(model, targets=list(words), rank=tokens), method=PrefixTuning())


BASE = "base"
WAYS: dict[str, Callable[[Any, Place], None]] = {
    BASE: bare, "base again": bare, "merged": merged, "unmerged": unmerged,
    "adapter L": adapter_l, "adapter H": adapter_h, "prefix": prefix,
}  # fmt: skip


def way_named(name: str) -> Callable[[Any, Place], None]:
    """The way of this name, or `RecipeError` with the nearest known one."""
    if name not in WAYS:
        raise RecipeError(
            f"{name!r} is no way to answer: {', '.join(WAYS)}.{did_you_mean(name, WAYS)}"
        )
    return WAYS[name]
