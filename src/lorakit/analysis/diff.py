"""`diff`: two adapters side by side, module by module."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import Any

import torch

from lorakit.analysis.factored import Spectrum, overlap
from lorakit.core.errors import shortlist
from lorakit.core.state import AdapterState, LowRankState
from lorakit.formats.load import read_adapter
from lorakit.formats.packing import packed

_SHARE = 1e-6  # singular values below this share of the largest are rounding


@dataclass(frozen=True)
class Pair:
    """One module in both: norms of the changes, |b - a| / |a|, and how far their spaces overlap.

    `inputs` is the overlap of what the two listen to (rows of A), `outputs` of what they write
    (columns of B): 0 for none, 1 where one space lies in the other.
    """

    path: str
    ranks: tuple[int, int]
    norms: tuple[float, float]
    distance: float
    inputs: float
    outputs: float


@dataclass(frozen=True)
class Difference:
    """Two adapters: the modules they share, those of one alone, and whether they are the same.

    `changed` are the magnitudes, biases and modules trained in full whose values differ.
    """

    first: str
    second: str
    shared: list[Pair]
    changed: list[str]
    only_first: list[str]
    only_second: list[str]
    settings: dict[str, tuple[Any, Any]]

    @property
    def same(self) -> bool:
        """Whether both make the same change, bit for bit."""
        alone = self.only_first or self.only_second or self.settings or self.changed
        return not alone and all(pair.distance == 0 for pair in self.shared)

    def as_dict(self) -> dict[str, Any]:
        """The difference as JSON."""
        return {**asdict(self), "same": self.same}

    def __str__(self) -> str:
        lines = [f"{self.first} against {self.second}"]
        if self.same:
            return f"{lines[0]}: the same change in {len(self.shared)} modules"
        for what, paths in (("first", self.only_first), ("second", self.only_second)):
            if paths:
                lines.append(f"only in the {what}: {shortlist(paths, 6)}")
        if self.changed:
            lines.append(f"other values: {shortlist(self.changed, 6)}")
        lines += [f"{key}: {one!r} against {two!r}" for key, (one, two) in self.settings.items()]
        if self.shared:
            width = max(len(pair.path) for pair in self.shared)
            lines.append(
                f"{'module':<{width}}  {'ranks':>9}  {'|a|':>9}  {'|b|':>9}  {'|b-a|/|a|':>9}  "
                f"{'inputs':>6}  {'outputs':>7}"
            )
            lines += [
                f"{p.path:<{width}}  {f'{p.ranks[0]}, {p.ranks[1]}':>9}  {p.norms[0]:>9.3g}  "
                f"{p.norms[1]:>9.3g}  {p.distance:>9.3g}  {p.inputs:>6.2f}  {p.outputs:>7.2f}"
                for p in sorted(self.shared, key=lambda pair: -pair.distance)
            ]
        return "\n".join(lines)


def diff(first: str | os.PathLike, second: str | os.PathLike) -> Difference:
    """Compare two adapters by what they change. Raises `LorakitError` for one that is damaged."""
    one, two = packed(read_adapter(first)), packed(read_adapter(second))
    paths = [path for path in one.low_rank if path in two.low_rank]
    return Difference(
        os.fspath(first),
        os.fspath(second),
        [_pair(path, one, two) for path in paths],
        _changed(one, two),
        sorted(_names(one) - _names(two)),
        sorted(_names(two) - _names(one)),
        {
            key: (getattr(one, key), getattr(two, key))
            for key in ("method", "bias")
            if getattr(one, key) != getattr(two, key)
        },
    )


def _names(state: AdapterState) -> set[str]:
    whole = (*state.low_rank, *state.extras, *state.parameters)
    return {*whole, *(f"{path}.bias" for path in state.biases)}


def _changed(one: AdapterState, two: AdapterState) -> list[str]:
    """What is no factor and differs, of what both have."""
    factors = tuple(f"{path} {name}" for path in one.low_rank for name in "AB")
    mine, other = one.tensors(), two.tensors()
    return [
        name
        for name in mine.keys() & other.keys() - set(factors)
        if not torch.equal(mine[name], other[name])
    ]


def _pair(path: str, one: AdapterState, two: AdapterState) -> Pair:
    a, b = one.low_rank[path], two.low_rank[path]
    mine, other = _spectrum(a, one), _spectrum(b, two)
    norms = float(mine.S.norm()), float(other.S.norm())
    ranks = a.rank, b.rank
    if (mine.U.shape[:-1], mine.V.shape[:-1]) != (other.U.shape[:-1], other.V.shape[:-1]):
        return Pair(path, ranks, norms, float("inf"), 0.0, 0.0)
    same = torch.equal(a.A, b.A) and torch.equal(a.B, b.B) and one.scale(a) == two.scale(b)
    A = torch.cat([b.A.double() * two.scale(b), a.A.double() * one.scale(a)], -2)
    B = torch.cat([b.B.double(), -a.B.double()], -1)
    gap = 0.0 if same else float(Spectrum.of(A, B).S.norm())
    left, right = _kept(mine), _kept(other)
    return Pair(
        path, ranks, norms, gap / norms[0] if norms[0] else gap,
        overlap(mine.V[..., :left], other.V[..., :right]),
        overlap(mine.U[..., :left], other.U[..., :right]),
    )  # fmt: skip


def _spectrum(low: LowRankState, state: AdapterState) -> Spectrum:
    return Spectrum.of(low.A.double() * state.scale(low), low.B)


def _kept(spectrum: Spectrum) -> int:
    """The rank without what is rounding."""
    values = spectrum.values
    return int((_SHARE * values.max() < values).sum()) if len(values) else 0
