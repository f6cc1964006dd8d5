"""`combine`: several adapters as one, and how far that is from their weighted sum.

The sum is that of the changes, sum_i w_i s_i B_i A_i, whatever ranks and scales the adapters have.
Adding up A and B apart, as if they were the change, gives products of unlike factors besides.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lorakit.analysis.factored import Spectrum
from lorakit.core.errors import (
    ODDITIES,
    AdapterFileError,
    BaseMismatchError,
    PlanError,
    UnsupportedError,
    did_you_mean,
    shortlist,
)
from lorakit.core.fingerprint import conflict
from lorakit.core.state import AdapterState, LowRankState
from lorakit.formats.load import read_adapter
from lorakit.formats.packing import packed
from lorakit.formats.proof import Written
from lorakit.formats.save import write_adapter

HOW = ("exact", "svd", "ties", "dare")


@dataclass(frozen=True)
class Combination(Written):
    """What was made: per module its rank, and the relative error against the target of the method.

    For "exact" and "svd" the target is the weighted sum; for "ties" and "dare" what they make of
    the dense changes.
    """

    how: str
    ranks: dict[str, int]

    def __str__(self) -> str:
        low, high = min(self.ranks.values(), default=0), max(self.ranks.values(), default=0)
        span = f"{low}" if low == high else f"{low} to {high}"
        return (
            f"{self.how}: {len(self.ranks)} modules of rank {span} in {self.folder}; largest "
            f"relative error {self.largest:.2g}"
        )


def combine(
    adapters: Sequence[str | os.PathLike], *, weights: Sequence[float] | None = None,
    how: str = "exact", rank: int | None = None, density: float = 0.2, seed: int = 0,
    out: str | os.PathLike,
) -> Combination:  # fmt: skip
    """Write one adapter that does what the weighted sum of several does, to the folder `out`.

    "exact" puts the factors next to each other, so that ranks add up. "svd" is the nearest adapter
    of a `rank`. "ties" (Yadav et al. 2023) keeps of each change its `density` of largest entries,
    elects a sign for each entry and averages those that agree. "dare" (Yu et al. 2024) keeps
    a random `density` of the entries, scaled up, and adds. Both need the dense change of one module
    at a time, and a `rank` to cut it to (else the ranks' sum). Raises `LorakitError`.
    """
    if how not in HOW:
        raise PlanError(f"how={how!r}; known are {', '.join(HOW)}.{did_you_mean(how, HOW)}")
    if rank is not None and (rank < 1 or how == "exact"):
        raise PlanError("rank goes with svd, ties and dare, and is at least 1.")
    if not 0 < density <= 1:
        raise PlanError(f"density is {density!r}; expected a share above 0 and up to 1.")
    states = [packed(read_adapter(adapter)) for adapter in adapters]
    for own in states:
        if own.parameters:  # whole modules, norms and biases do add up
            own.check_factored("combine")
    shares = [1.0] * len(states) if weights is None else [float(weight) for weight in weights]
    if not states or len(shares) != len(states):
        raise PlanError(f"{len(states)} adapters and {len(shares)} weights; give one for each.")
    if not all(math.isfinite(share) for share in shares):
        raise PlanError(f"weights are {shares}; expected finite numbers.")
    about: dict[str, Any] = {}
    if len(states) == 1 and shares == [1.0] and how == "exact":
        # One adapter as it is: also what its file holds in another form than the model has it in.
        state, errors = states[0], dict.fromkeys(states[0].low_rank, 0.0)
        told = (state.origin.get("manifest") or {}).get("adapter", {})
        about = {"packed": told["packed"]} if "packed" in told else {}
    else:
        state, errors = _combined(states, shares, how, rank, density, seed)
    folder = write_adapter(state, Path(out), about)
    ranks = {path: low.rank for path, low in state.low_rank.items()}
    return Combination(str(folder), errors, how, ranks)


def _combined(
    states: list[AdapterState], weights: list[float], how: str, rank: int | None, density: float,
    seed: int,
) -> tuple[AdapterState, dict[str, float]]:  # fmt: skip
    check_linear(states)
    _check_bases(states)
    paths = list(dict.fromkeys(path for state in states for path in state.low_rank))
    low_rank, errors = {}, {}
    for number, path in enumerate(paths):
        lows = [(s.low_rank[path], w * s.scale(s.low_rank[path])) for s, w in zip(states, weights)
                if path in s.low_rank]  # fmt: skip
        _check_alike(path, [low for low, _ in lows])
        A = torch.cat([low.A.float() for low, _ in lows], -2)
        B = torch.cat([(low.B.double() * factor).float() for low, factor in lows], -1)
        error = 0.0
        if how != "exact":
            generator = torch.Generator().manual_seed(seed * 100_003 + number)
            spectrum = (
                Spectrum.of(A, B) if how == "svd"
                else Spectrum.of_dense(_dense(lows, how, density, generator))
            )  # fmt: skip
            A, B, error = spectrum.cut(rank or A.shape[-2])
        first = lows[0][0]
        low_rank[path] = replace(first, A=A, B=B, alpha=float(A.shape[-2]))
        errors[path] = error
    merged = replace(states[0], low_rank=low_rank, rslora=False, dropout=0.0, method="lora")
    merged.extras, merged.biases = _whole(states, weights)
    merged.bias = "all" if merged.biases else "none"
    return merged, errors


def _dense(
    lows: list[tuple[LowRankState, float]], how: str, density: float, generator: torch.Generator
) -> Tensor:
    """The dense change that ties or dare makes of the adapters' changes of one module."""
    changes = [factor * (low.B.double() @ low.A.double()) for low, factor in lows]
    if how == "dare":
        kept = [torch.rand(c.shape, generator=generator) < density for c in changes]
        return sum((c * k / density for c, k in zip(changes, kept)), torch.zeros_like(changes[0]))
    trimmed = [_trim(change, density) for change in changes]
    total = torch.stack(trimmed)
    agree = total.sign() == total.sum(0).sign()
    return (total * agree).sum(0) / (agree & (total != 0)).sum(0).clamp_min(1)


def _trim(change: Tensor, density: float) -> Tensor:
    """The change with all but its largest entries set to zero."""
    count = max(1, round(density * change.numel()))
    threshold = change.abs().flatten().kthvalue(change.numel() - count + 1).values
    return change * (change.abs() >= threshold)


def check_linear(states: list[AdapterState]) -> None:
    """Raise `UnsupportedError` where a change is no sum of factors."""
    if any(low.magnitude is not None for state in states for low in state.low_rank.values()):
        raise UnsupportedError(
            "DoRA's change depends on the base's weights and is no sum of its factors. Merge the "
            "adapters into the base instead, one after the other."
        )


def _check_bases(states: list[AdapterState]) -> None:
    """Raise `BaseMismatchError` where the manifests say that the adapters have other bases."""
    prints = [state.base["fingerprint"] for state in states if state.base.get("fingerprint")]
    try:
        found = next(filter(None, (conflict(prints[0], other) for other in prints[1:])), None)
    except ODDITIES as error:
        raise AdapterFileError(
            f"A base's fingerprint in a lorakit.json is damaged ({error!r}). Fetch the adapter "
            "again, or delete its lorakit.json."
        ) from error
    if found is not None:
        raise BaseMismatchError(
            f"The adapters were trained on different bases: {found!r} is not the same in them, so "
            "their changes do not add up. Combine adapters of one base."
        )


def _check_alike(path: str, lows: list[LowRankState]) -> None:
    shapes = {(low.experts, low.A.shape[-1], low.B.shape[-2], low.kernel) for low in lows}
    if len(shapes) > 1:
        raise PlanError(
            f"{path!r} has different shapes in the adapters, {shortlist(map(str, shapes))}: they "
            "belong to different bases."
        )


def _whole(states: list[AdapterState], weights: list[float]) -> tuple[dict, dict]:
    """What is trained in full has no weight: it is taken where one adapter alone has it."""
    extras: dict[str, dict[str, Tensor]] = {}
    biases: dict[str, Tensor] = {}
    for state, weight in zip(states, weights):
        for mine, others in ((state.extras, extras), (state.biases, biases)):
            both = sorted(mine.keys() & others.keys())
            if both or (mine and weight != 1):
                raise UnsupportedError(
                    f"{shortlist(both or sorted(mine))} is trained in full, which cannot be "
                    "weighted or added up without the base. Merge into the base instead."
                )
            others.update(mine)  # type: ignore[arg-type]
    return extras, biases
