"""What no file format knows, written as plain factors: parts of fused layers, and anchors.

The A of parts stand on top of each other, and B is in blocks: a row for every output of the layer,
a column for every rank of a part, zeros elsewhere. An anchor A0, B0 goes below A and, negated,
beside B. Both are the same change of the weight, of a larger rank; the manifest says how to undo
it.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from lorakit.core.errors import ODDITIES, AdapterFileError, PlanError
from lorakit.core.plan import split_target
from lorakit.core.state import AdapterState, LowRankState, scale_of
from lorakit.layers.fused import outputs_of

Packed = dict[str, dict[str, Any]]  # target -> its rank, alpha, and whether it is anchored


def described(state: AdapterState) -> Packed:
    """What the manifest keeps of each target that a file holds in another form."""
    special = {
        target: low
        for target, low in state.low_rank.items()
        if (split_target(target)[1] and not low.experts) or low.anchor
    }
    return {
        target: {"rank": low.rank, "alpha": low.alpha, "anchored": low.anchor is not None}
        for target, low in special.items()
    }


def packed(state: AdapterState) -> AdapterState:
    """The adapter in plain factors of whole layers."""
    whole: dict[str, LowRankState] = {}
    parts: dict[str, list[LowRankState]] = {}
    for target, low in state.low_rank.items():
        path, part = split_target(target)
        if low.experts:
            whole[target] = low
            continue
        whole[path] = _fold(low, state.rslora)
        if part:
            parts.setdefault(path, []).append(whole[path])
    whole.update({path: _join(lows, state.rslora) for path, lows in parts.items()})
    return replace(state, low_rank=whole, method="lora" if state.method == "vera" else state.method)


def unpack(root: nn.Module, state: AdapterState, what: Packed, where: str) -> None:
    """Bring targets that a manifest describes back into their own form, in place."""
    try:
        by_path: dict[str, list[str]] = {}
        for target in dict(what):
            by_path.setdefault(split_target(target)[0], []).append(target)
        for path, targets in by_path.items():
            low = state.low_rank.pop(path)
            state.low_rank.update(_unpack(root, low, {t: what[t] for t in targets}, state.rslora))
    except (*ODDITIES, PlanError) as error:
        raise AdapterFileError(
            f"{where}: what lorakit.json says of its parts and anchors does not fit its tensors "
            f"({error}). Fetch the adapter again, or delete lorakit.json to load plain factors."
        ) from error


def _join(lows: list[LowRankState], rslora: bool) -> LowRankState:
    first, rank, column = lows[0], sum(low.rank for low in lows), 0
    ratios = [_ratio(low, first, rslora) for low in lows]
    # A product by another ratio is rounded; in float64 that can be undone to the same float32.
    exact = all(math.frexp(abs(ratio))[0] == 0.5 for ratio in ratios)
    dtype = first.B.dtype if exact else torch.float64
    B = first.B.new_zeros(first.width, rank, dtype=dtype)
    for low, ratio in zip(lows, ratios):
        assert low.outputs is not None
        B[low.outputs, column : column + low.rank] = low.B.to(dtype) * ratio
        column += low.rank
    grown = rank / first.rank
    alpha = first.alpha * (math.sqrt(grown) if rslora else grown)
    return LowRankState(first.geometry, torch.cat([low.A for low in lows]), B, alpha, first.kernel)


def _ratio(low: LowRankState, first: LowRankState, rslora: bool) -> float:
    """What the one scale of the joined layer leaves to B. Powers of two cost no rounding."""
    return scale_of(low.alpha, low.rank, rslora=rslora) / scale_of(
        first.alpha, first.rank, rslora=rslora
    )


def folded(low: LowRankState) -> LowRankState:
    """One update in plain factors: VeRA's vectors inside of them, an anchor as further ranks."""
    if low.vectors is not None:
        d, b = low.vectors
        wide = torch.promote_types(d.dtype, torch.float32)
        A, B = d.to(wide)[:, None] * low.A.to(wide), b.to(wide)[:, None] * low.B.to(wide)
        low = replace(low, A=A, B=B, vectors=None)
    if low.anchor is None:
        return low
    A, B = torch.cat([low.A, low.anchor[0]]), torch.cat([low.B, -low.anchor[1]], 1)
    return replace(low, A=A, B=B, anchor=None)


def _fold(low: LowRankState, rslora: bool) -> LowRankState:
    """The same, with the alpha that leaves the scale as it is."""
    plain = folded(low)
    grown = plain.rank / low.rank
    return replace(plain, alpha=low.alpha * (math.sqrt(grown) if rslora else grown))


def _unpack(
    root: nn.Module, low: LowRankState, entries: Packed, rslora: bool
) -> dict[str, LowRankState]:
    found: dict[str, LowRankState] = {}
    left, column = low.B.clone(), 0
    for target, entry in entries.items():
        rank = int(entry["rank"])
        outputs, size = outputs_of(root, target), rank * (2 if entry["anchored"] else 1)
        columns = slice(column, column + size)
        rows = torch.arange(len(low.B)) if outputs is None else outputs
        A, B = low.A[columns], low.B[rows, columns]
        left[rows, columns] = 0
        column += size
        found[target] = replace(
            low, A=A, B=B, alpha=float(entry["alpha"]), outputs=outputs, width=len(low.B)
        )
    if column != low.rank or left.any():
        raise ValueError("rank or blocks differ")
    first, rank = next(iter(found.values())), int(next(iter(entries.values()))["rank"])
    scales_agree = math.isclose(
        scale_of(first.alpha, rank, rslora=rslora),
        scale_of(low.alpha, low.rank, rslora=rslora),
        rel_tol=1e-6,
    )
    if not scales_agree:
        raise ValueError("alpha differs")
    ranks = {target: int(entry["rank"]) for target, entry in entries.items()}
    scales = {
        target: scale_of(own.alpha, ranks[target], rslora=rslora) for target, own in found.items()
    }
    for target, own in found.items():
        ratio = scales[target] / next(iter(scales.values()))
        own.B = (own.B / ratio).to(low.A.dtype)
        rank = ranks[target]
        if entries[target]["anchored"]:
            own.anchor = own.A[rank:].clone(), -own.B[:, rank:]
            own.A, own.B = own.A[:rank].clone(), own.B[:, :rank].clone()
    return found
