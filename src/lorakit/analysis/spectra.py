"""Singular values of an adapter's changes: how many directions each layer really uses."""

from __future__ import annotations

import os

from lorakit.analysis.factored import Spectrum
from lorakit.formats.content import Options
from lorakit.formats.load import read_adapter
from lorakit.formats.packing import folded


def singular_values(
    place: str | os.PathLike, *, layers: int | None = None
) -> dict[str, list[float]]:
    """The singular values above zero of each low-rank change, by target, the largest first.

    With `layers` of so many that have the largest. Fused experts are left out. Raises
    `AdapterFileError` for what is no adapter.
    """
    state = read_adapter(place, options=Options(alpha=1.0, guess=True))
    found = {}
    for path, low in state.low_rank.items():
        plain = folded(low)
        if plain.A.dim() == 2:
            values = Spectrum.of(plain.A, plain.B).S * abs(state.scale(low))
            found[path] = [float(own) for own in values if own > 0]
    ordered = sorted((path for path in found if found[path]), key=lambda path: -found[path][0])
    return {path: found[path] for path in ordered[:layers]}
