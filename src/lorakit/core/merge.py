"""Merging adapters into the weights, and the exact way back.

A merge never writes into a pretrained weight. It builds the merged parameter, puts that in the
layer's place for it and keeps the pretrained `Parameter` object: unmerging puts the object back, so
every bit of the base returns by construction, in any dtype, and weights tied to it never change.
A quantised layer has no weight to put a sum into: a plain layer stands in its place meanwhile.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lorakit.core.errors import MergeError, did_you_mean
from lorakit.core.registry import STRUCTURE, Registry, require_registry, root_of
from lorakit.core.site import SITE, base_parameters, module_at, own_parameters, site_of, walk
from lorakit.core.tally import MergeReport, Tally

ROUNDINGS = ("nearest", "stochastic")


@dataclass(frozen=True)
class Swap:
    """An exchange of a parameter, by module path and name, or without a name of a whole layer."""

    path: str
    name: str
    pristine: Any
    merged: Any


@dataclass(frozen=True)
class Merge:
    """A merge in force: the internal ids of its adapters and every exchange of a parameter."""

    adapters: tuple[str, ...]
    swaps: tuple[Swap, ...]


def merge(
    model: nn.Module, *names: str, rounding: str = "nearest", seed: int = 0,
    requantise: bool = False,
) -> MergeReport:  # fmt: skip
    """Put the named adapters, added up, into the weights; without a name, those that are active.

    `rounding="stochastic"` rounds up or down by chance (of `seed`), so that changes too small for
    the base's dtype are kept on average. Quantised layers are dequantised, and quantised again only
    if `requantise` says so: the report has the error of that. Raises `MergeError`, nothing changed.
    """
    if rounding not in ROUNDINGS:
        raise MergeError(
            f"rounding={rounding!r}; expected {' or '.join(map(repr, ROUNDINGS))}."
            + did_you_mean(str(rounding), ROUNDINGS)
        )
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise MergeError(f"seed={seed!r}; expected a whole number.")
    chance = torch.Generator().manual_seed(seed) if rounding == "stochastic" else None
    with STRUCTURE:
        registry = require_registry(model)
        if registry.merged is not None:
            raise MergeError(
                f"{', '.join(registry.names_of(registry.merged.adapters))} is merged already. "
                "Call lk.unmerge(model) first."
            )
        _check_idle(registry)
        route = registry.route_to(names) if names else registry.active
        if not route.ids:
            raise MergeError("No adapter is named or active: pass the names to merge.")
        root = root_of(model)
        swaps, report = _build(root, registry, route.ids, chance, requantise)
        _exchange(root, swaps, merged=True)
        registry.merged = Merge(route.ids, swaps)
        return report


def unmerge(model: nn.Module) -> None:
    """Give the model its own weights back, every bit."""
    with STRUCTURE:
        registry = require_registry(model)
        if registry.merged is None:
            raise MergeError("Nothing is merged into this model. Call lk.merge first.")
        _check_idle(registry)
        root = root_of(model)
        _check_swaps(root, registry.merged.swaps)
        _exchange(root, registry.merged.swaps, merged=False)
        registry.merged = None


@contextmanager
def merged(model: nn.Module, *names: str, **options: Any) -> Iterator[MergeReport]:
    """`merge` for the length of a block."""
    report = merge(model, *names, **options)
    try:
        yield report
    finally:
        unmerge(model)


def _check_idle(registry: Registry) -> None:
    if registry.open:
        raise MergeError(
            f"{len(registry.open)} open `with lk.use(...)` would see its answers change. Leave "
            "those blocks, in all threads, before the weights are changed."
        )


def _build(
    root: nn.Module, registry: Registry, adapters: tuple[str, ...],
    chance: torch.Generator | None, again: bool,
) -> tuple[tuple[Swap, ...], MergeReport]:  # fmt: skip
    entries = [entry for entry in registry.entries.values() if entry.id in adapters]
    layers: list[Swap] = []
    values: list[Swap] = []
    tally = Tally()
    plain = plain_dtype(root)
    # dict.fromkeys: each site once, in order, even where several adapters live on it.
    for path in dict.fromkeys(path for entry in entries for path in entry.paths):
        layer = module_at(root, path)
        site = site_of(layer)
        assert site is not None
        own = own_parameters(layer)
        for name, total in site.merge_into(layer, adapters).items():
            if total.packed is None:
                pristine = own[name]
                value = rounded(total.after, pristine.dtype, chance)
                tally.add(total, value, pristine.dtype)
                merged = nn.Parameter(value, requires_grad=pristine.requires_grad)
                values.append(Swap(path, name, pristine, merged))
                continue
            dtype = plain or total.packed.matrix(layer).dtype
            value = rounded(total.after, dtype, chance)
            other = total.packed.closed(layer, value, again=again)
            tally.add(total, total.packed.matrix(other) if again else value, dtype)
            other.add_module(SITE, site)
            layers.append(Swap(path, "", layer, other))
    report = MergeReport(
        tuple(registry.names_of(adapters)),
        len(layers) + len(values),
        tally.swallowed / max(tally.changed, 1),
        tally.error,
        math.sqrt(tally.missed / tally.moved) if tally.moved else 0.0,
        len(layers),
    )
    _check_held(root, layers)
    return (*layers, *values), report  # layers first: a merged bias goes into the new layer


def plain_dtype(root: nn.Module) -> torch.dtype | None:
    """The dtype of what is not quantised in a model: that of most of its plain numbers."""
    counts: dict[torch.dtype, int] = {}
    for value in base_parameters(root).values():
        if value.is_floating_point() and type(value) is nn.Parameter:
            counts[value.dtype] = counts.get(value.dtype, 0) + value.numel()
    return max(counts, key=lambda dtype: counts[dtype], default=None)


def rounded(exact: Tensor, dtype: torch.dtype, chance: torch.Generator | None) -> Tensor:
    """The values in a narrower dtype: the nearest, or one of the two around each by chance.

    By chance means up with the probability (x - down) / (up - down), so that the mean is x.
    """
    nearest = exact.to(dtype)
    if chance is None or dtype == exact.dtype:
        return nearest
    gap = exact - nearest.to(exact.dtype)
    far = torch.copysign(torch.full_like(nearest, math.inf), gap.to(dtype))
    other = torch.nextafter(nearest, far)
    step = (other.to(exact.dtype) - nearest.to(exact.dtype)).abs()
    draw = torch.rand(exact.shape, generator=chance, dtype=exact.dtype).to(exact.device)
    return torch.where(draw * step < gap.abs(), other, nearest)


def _exchange(root: nn.Module, swaps: tuple[Swap, ...], *, merged: bool) -> None:
    for swap in swaps if merged else reversed(swaps):
        old, new = (swap.pristine, swap.merged) if merged else (swap.merged, swap.pristine)
        if swap.name:
            owner, leaf = _owner(root, swap)
            owner._parameters[leaf] = new
        else:
            new.train(old.training)
            for parent, leaf in holders(root, old):
                parent._modules[leaf] = new


def holders(root: nn.Module, layer: nn.Module) -> list[tuple[nn.Module, str]]:
    """Everywhere in the tree that the layer hangs: its parents, and its name in each."""
    return [
        (parent, leaf)
        for _, parent in walk(root)
        for leaf, child in parent._modules.items()
        if child is layer
    ]


def _check_held(root: nn.Module, layers: list[Swap]) -> None:
    """A layer can be exchanged where a module holds it, and nothing but our hook hangs on it."""
    for swap in layers:
        layer: nn.Module = swap.pristine
        if not holders(root, layer):
            raise MergeError(
                f"{swap.path!r} is quantised and no module holds it, so no plain layer can take "
                "its place. Wrap the model in a torch.nn.Sequential before you adapt it."
            )
        if _foreign_hooks(layer, own=1):
            raise MergeError(
                f"{swap.path!r} is quantised and has hooks of others (accelerate's, or your own), "
                "which the plain layer in its place would not have. Remove them first, or load the "
                "model onto one device."
            )


def _foreign_hooks(layer: nn.Module, *, own: int) -> bool:
    """Whether something hangs on the layer beside our `own` hooks."""
    others = (layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks)
    return any(others) or len(layer._forward_hooks) > own or "forward" in layer.__dict__


def _owner(root: nn.Module, swap: Swap) -> tuple[nn.Module, str]:
    layer = root.get_submodule(swap.path)
    path, _, leaf = swap.name.rpartition(".")
    return layer.get_submodule(path), leaf


def _check_swaps(root: nn.Module, swaps: tuple[Swap, ...]) -> None:
    """Refuse to unmerge over what somebody else put there meanwhile."""
    for swap in swaps:
        if not swap.name:
            if root.get_submodule(swap.path) is not swap.merged:
                raise MergeError(
                    f"The layer {swap.path!r} was replaced since the merge, so unmerging would "
                    "lose it. Put the merged layer back, or load the base again."
                )
            if _foreign_hooks(swap.merged, own=0):
                raise MergeError(
                    f"Hooks were put on {swap.path!r} since the merge, which the quantised layer "
                    "that comes back would not have. Remove them before lk.unmerge."
                )
            swap.pristine.to(swap.merged.weight.device)
            continue
        owner, leaf = _owner(root, swap)
        if owner._parameters.get(leaf) is not swap.merged:
            raise MergeError(
                f"{swap.path}.{swap.name} was replaced since the merge, so unmerging would lose "
                "it. Put the merged parameter back, or load the base again."
            )
        if swap.merged.dtype != swap.pristine.dtype:
            raise MergeError(
                f"{swap.path}.{swap.name} was cast from {swap.pristine.dtype} to "
                f"{swap.merged.dtype} since the merge. Cast the model back before lk.unmerge."
            )
        # model.to(device) moved the merged weight alone: its pristine one follows here.
        swap.pristine.data = swap.pristine.data.to(swap.merged.device)
