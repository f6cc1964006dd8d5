"""`resize`: an adapter of other ranks, and what share of each module's change that keeps."""

from __future__ import annotations

import heapq
import os
from dataclasses import dataclass, replace
from pathlib import Path

from lorakit.analysis.combine import check_linear
from lorakit.analysis.factored import Spectrum
from lorakit.core.errors import PlanError
from lorakit.formats.load import read_adapter
from lorakit.formats.packing import packed
from lorakit.formats.proof import Written
from lorakit.formats.save import write_adapter


@dataclass(frozen=True)
class Resized(Written):
    """Ranks before and after, the parameters after, and the relative error of each module."""

    before: dict[str, int]
    ranks: dict[str, int]
    parameters: int

    def __str__(self) -> str:
        return (
            f"{len(self.ranks)} modules in {self.folder}: ranks {sum(self.before.values())} -> "
            f"{sum(self.ranks.values())} in all, {self.parameters:,} parameters; largest relative "
            f"error of a change {self.largest:.2g}"
        )


def resize(
    adapter: str | os.PathLike, *, rank: int | None = None, energy: float | None = None,
    params: int | None = None, out: str | os.PathLike,
) -> Resized:  # fmt: skip
    """Write the nearest adapter of smaller ranks to the folder `out`.

    One of: `rank`, at most this for every module; `energy`, the share of each module's squared norm
    to keep; `params`, a budget for the whole adapter, spent where a singular value brings most per
    parameter. Every module keeps a rank of at least 1. Raises `PlanError`, `LorakitError`.
    """
    check_size(rank, energy, params)
    state = packed(read_adapter(adapter))
    state.check_factored("resize")
    check_linear([state])
    spectra = {
        path: Spectrum.of(low.A.double() * state.scale(low), low.B)
        for path, low in state.low_rank.items()
    }
    if params is not None:
        ranks = budgeted(spectra, params)
    elif energy is not None:
        ranks = {path: spectrum.rank_for(energy) for path, spectrum in spectra.items()}
    else:
        assert rank is not None
        ranks = {path: min(rank, len(spectrum.values)) for path, spectrum in spectra.items()}
    low_rank, errors = {}, {}
    for path, low in state.low_rank.items():
        A, B, errors[path] = spectra[path].cut(ranks[path])
        low_rank[path] = replace(low, A=A, B=B, alpha=float(A.shape[-2]))
    small = replace(state, low_rank=low_rank, rslora=False)
    folder = write_adapter(small, Path(out))
    before = {path: low.rank for path, low in state.low_rank.items()}
    size = sum(low.A.numel() + low.B.numel() for low in low_rank.values())
    return Resized(str(folder), errors, before, ranks, size)


def budgeted(spectra: dict[str, Spectrum], params: int) -> dict[str, int]:
    """Ranks within a budget: the singular values that bring most squared norm per parameter."""
    cost = {path: spectrum.cost for path, spectrum in spectra.items()}
    ranks = dict.fromkeys(spectra, 1)
    left = params - sum(cost.values())
    if left < 0:
        raise PlanError(
            f"params={params:,} is too small: rank 1 everywhere takes {sum(cost.values()):,}."
        )
    waiting = [(-_gain(spectra[path], 1) / cost[path], path) for path in spectra]
    heapq.heapify(waiting)
    while waiting:
        gain, path = heapq.heappop(waiting)
        if gain == 0 or cost[path] > left:
            continue
        left -= cost[path]
        ranks[path] += 1
        heapq.heappush(waiting, (-_gain(spectra[path], ranks[path]) / cost[path], path))
    return ranks


def _gain(spectrum: Spectrum, place: int) -> float:
    return float(spectrum.values[place]) ** 2 if place < len(spectrum.values) else 0.0


def check_size(rank: int | None, energy: float | None, params: int | None) -> None:
    """Raise `PlanError` unless exactly one of the three is given, and can be meant."""
    given = [value for value in (rank, energy, params) if value is not None]
    if len(given) != 1:
        raise PlanError(f"Give one of rank, energy and params; got {len(given)}.")
    if energy is not None and not 0 < energy <= 1:
        raise PlanError(f"energy is {energy!r}; expected a share above 0 and up to 1.")
    if energy is None and (not isinstance(given[0], int) or given[0] < 1):
        raise PlanError(f"expected a whole number of at least 1, got {given[0]!r}.")
