"""The layer types that can be adapted: one file each, and one line in `GEOMETRIES`."""

from __future__ import annotations

from torch import nn

from lorakit.core.errors import UnsupportedError
from lorakit.core.update import Geometry
from lorakit.layers.conv1d import TransposedLinearGeometry
from lorakit.layers.convolution import ConvolutionGeometry
from lorakit.layers.embedding import EmbeddingGeometry
from lorakit.layers.linear import LinearGeometry
from lorakit.layers.norm import is_norm
from lorakit.layers.quantised import EightBitGeometry, FourBitGeometry, WeightOnlyGeometry

GEOMETRIES: tuple[Geometry, ...] = (
    LinearGeometry(),
    TransposedLinearGeometry(),
    ConvolutionGeometry(),
    EmbeddingGeometry(),
    FourBitGeometry(),
    EightBitGeometry(),
    WeightOnlyGeometry(),
)

MATRICES = ("linear", "conv1d")  # the geometries of matrix products


_WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Embedding)


def geometry_of(layer: nn.Module) -> Geometry | None:
    """The geometry that is right for the layer, or None.

    None also where the weight is worked out anew at each call, as by torch's old weight norm: no
    change of it would stay.
    """
    if isinstance(layer, _WEIGHTED) and "weight" not in layer._parameters:
        return None
    return next((geometry for geometry in GEOMETRIES if geometry.accepts(layer)), None)


def is_quantised(layer: nn.Module) -> bool:
    """Whether the layer's weight is kept in few bits, in one of the ways that are known here."""
    geometry = geometry_of(layer)
    return geometry is not None and geometry.quantised


def adaptable(layer: nn.Module) -> bool:
    """Whether a plan may name the layer: it has a low-rank form, or is a norm."""
    return geometry_of(layer) is not None or is_norm(layer)


def require_geometry(layer: nn.Module, path: str) -> Geometry:
    """The geometry that is right for the layer, or `UnsupportedError`."""
    geometry = geometry_of(layer)
    if geometry is None:
        known = ", ".join(dict.fromkeys(geometry.name for geometry in GEOMETRIES))
        raise UnsupportedError(
            f"{path!r} is a {type(layer).__module__}.{type(layer).__qualname__}, which has no "
            f"low-rank form here; supported are {known}, and norms in full. Leave it out of the "
            "plan."
        )
    return geometry
