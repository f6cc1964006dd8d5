"""Merging adapters into the weights, and the exact way back.

A merge never writes into a pretrained weight. It builds the merged parameter, puts that in the
layer's place for it and keeps the pretrained `Parameter` object: unmerging puts the object back, so
every bit of the base returns by construction, in any dtype, and weights tied to it never change.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lorakit.core.errors import MergeError
from lorakit.core.registry import STRUCTURE, Registry, require_registry, root_of
from lorakit.core.site import own_parameters, site_of


@dataclass(frozen=True)
class Swap:
    """One parameter's exchange: the pretrained one and the merged one, by module path and name."""

    path: str
    name: str
    pristine: nn.Parameter
    merged: nn.Parameter


@dataclass(frozen=True)
class Merge:
    """A merge in force: the internal ids of its adapters and every exchange of a parameter."""

    adapters: tuple[str, ...]
    swaps: tuple[Swap, ...]


@dataclass(frozen=True)
class MergeReport:
    """What rounding to the base's dtype did to a merge.

    `unchanged` is the share of entries with a delta that rounding left at the base's value, and
    `error` the largest distance, over all entries, between the merged weight and the exact sum.
    """

    names: tuple[str, ...]
    tensors: int
    unchanged: float
    error: float

    def __str__(self) -> str:
        return (
            f"merged {' + '.join(map(repr, self.names))} into {self.tensors} tensors: rounding "
            f"left {self.unchanged:.1%} of the changed weights as they were; largest rounding "
            f"error {self.error:.2g}"
        )


def merge(model: nn.Module, *names: str) -> MergeReport:
    """Put the named adapters, added up, into the weights; without a name, those that are active."""
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
        swaps, report = _build(root, registry, route.ids)
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
def merged(model: nn.Module, *names: str) -> Iterator[MergeReport]:
    """`merge` for the length of a block."""
    report = merge(model, *names)
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
    root: nn.Module, registry: Registry, adapters: tuple[str, ...]
) -> tuple[tuple[Swap, ...], MergeReport]:
    entries = [entry for entry in registry.entries.values() if entry.id in adapters]
    swaps: list[Swap] = []
    changed = swallowed = 0
    error = 0.0
    # dict.fromkeys: each site once, in order, even where several adapters live on it.
    for path in dict.fromkeys(path for entry in entries for path in entry.paths):
        layer = root.get_submodule(path)
        site = site_of(layer)
        assert site is not None
        own = own_parameters(layer)
        for name, exact in site.merge_into(layer, adapters).items():
            pristine = own[name]
            rounded = exact.to(pristine.dtype)
            moved = exact != pristine.detach().to(exact.dtype)
            changed += int(moved.sum())
            swallowed += int((moved & (rounded == pristine.detach())).sum())
            error = max(error, _largest(rounded, exact))
            value = nn.Parameter(rounded, requires_grad=pristine.requires_grad)
            swaps.append(Swap(path, name, pristine, value))
    labels = tuple(registry.names_of(adapters))
    return tuple(swaps), MergeReport(labels, len(swaps), swallowed / max(changed, 1), error)


def _largest(rounded: Tensor, exact: Tensor) -> float:
    distance = float((rounded.to(exact.dtype) - exact).abs().max()) if exact.numel() else 0.0
    if not torch.isfinite(torch.tensor(distance)):
        raise MergeError(
            f"The merged weight does not fit {rounded.dtype}: a value is not finite. Merge into "
            "a base in float32 or bfloat16."
        )
    return distance


def _exchange(root: nn.Module, swaps: tuple[Swap, ...], *, merged: bool) -> None:
    for swap in swaps:
        owner, leaf = _owner(root, swap)
        owner._parameters[leaf] = swap.merged if merged else swap.pristine


def _owner(root: nn.Module, swap: Swap) -> tuple[nn.Module, str]:
    layer = root.get_submodule(swap.path)
    path, _, leaf = swap.name.rpartition(".")
    return layer.get_submodule(path), leaf


def _check_swaps(root: nn.Module, swaps: tuple[Swap, ...]) -> None:
    """Refuse to unmerge over parameters that somebody else put there meanwhile."""
    for swap in swaps:
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
