"""Parts of fused layers in files, none of which know them: joined to whole layers, and told apart.

The parts' A stand on top of each other, and B is in blocks: a row for every output of the layer, a
column for every rank of a part, zeros elsewhere. That is the same change of the weight.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from lorakit.core.errors import AdapterFileError, PlanError
from lorakit.core.plan import split_target
from lorakit.core.state import AdapterState, LowRankState
from lorakit.layers.fused import outputs_of


def described(state: AdapterState) -> dict[str, dict[str, Any]]:
    """Rank and alpha of each part, as the manifest keeps them."""
    parts = {target: low for target, low in state.low_rank.items() if split_target(target)[1]}
    return {target: {"rank": low.rank, "alpha": low.alpha} for target, low in parts.items()}


def joined(state: AdapterState) -> AdapterState:
    """The adapter with whole layers in the place of their parts."""
    whole: dict[str, LowRankState] = {}
    parts: dict[str, list[LowRankState]] = {}
    for target, low in state.low_rank.items():
        path, part = split_target(target)
        whole[path] = low
        if part:
            parts.setdefault(path, []).append(low)
    whole.update({path: _join(lows, state.rslora) for path, lows in parts.items()})
    return replace(state, low_rank=whole)


def parted(
    root: nn.Module, state: AdapterState, parts: dict[str, dict[str, Any]], where: str
) -> None:
    """Take the parts that a manifest describes out of their joined layers, in place."""
    by_path: dict[str, list[str]] = {}
    for target in parts:
        by_path.setdefault(split_target(target)[0], []).append(target)
    try:
        for path, targets in by_path.items():
            low = state.low_rank.pop(path)
            state.low_rank.update(_part(root, low, {t: parts[t] for t in targets}, state.rslora))
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, PlanError) as error:
        raise AdapterFileError(
            f"{where}: the parts of layers that lorakit.json lists do not fit its tensors "
            f"({error}). Fetch the adapter again, or delete lorakit.json to load whole layers."
        ) from error


def _scale(alpha: float, rank: int, rslora: bool) -> float:
    return alpha / math.sqrt(rank) if rslora else alpha / rank


def _join(lows: list[LowRankState], rslora: bool) -> LowRankState:
    first, rank, column = lows[0], sum(low.rank for low in lows), 0
    B = first.B.new_zeros(first.width, rank)
    for low in lows:
        assert low.outputs is not None
        B[low.outputs, column : column + low.rank] = low.B * _ratio(low, first, rslora)
        column += low.rank
    grown = rank / first.rank
    alpha = first.alpha * (math.sqrt(grown) if rslora else grown)
    return LowRankState(first.geometry, torch.cat([low.A for low in lows]), B, alpha, first.kernel)


def _ratio(low: LowRankState, first: LowRankState, rslora: bool) -> float:
    """What the one scale of the joined layer leaves to B. Powers of two cost no rounding."""
    return _scale(low.alpha, low.rank, rslora) / _scale(first.alpha, first.rank, rslora)


def _part(
    root: nn.Module, low: LowRankState, parts: dict[str, dict[str, Any]], rslora: bool
) -> dict[str, LowRankState]:
    found: dict[str, LowRankState] = {}
    left, column = low.B.clone(), 0
    for target, entry in parts.items():
        outputs, columns = outputs_of(root, target), slice(column, column + int(entry["rank"]))
        assert outputs is not None
        A, B = low.A[columns], low.B[outputs, columns]
        left[outputs, columns] = 0
        column = columns.stop
        found[target] = LowRankState(
            low.geometry, A, B, float(entry["alpha"]), low.kernel, outputs, len(low.B)
        )
    if column != low.rank or left.any():
        raise ValueError("rank or blocks differ")
    first = next(iter(found.values()))
    for own in found.values():
        own.B = own.B / _ratio(own, first, rslora)
    return found
