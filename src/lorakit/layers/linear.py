"""nn.Linear: weight (out, in), y = x W^T + b."""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional as F

from lorakit.core.update import LowRank
from lorakit.layers.add import add_product

# Linear layers by another name, whose forward is that of nn.Linear.
_SAME = ("transformers.models.falcon.modeling_falcon.FalconLinear",)


class LinearGeometry:
    """y += scale (x A^T) B^T, the update of a matrix product (Hu et al. 2021, equation 3)."""

    name = "linear"
    zero = "B"
    quantised = False
    stacks = True

    def accepts(self, layer: nn.Module) -> bool:
        # Subclasses may read their weight in their own way: the type has to be a known one.
        kind = type(layer)
        known = kind is nn.Linear or f"{kind.__module__}.{kind.__qualname__}" in _SAME
        # A weight that is a tensor of another library's is read in that library's way.
        return known and type(layer._parameters.get("weight")).__module__.startswith("torch.")

    def size(self, layer: nn.Module) -> tuple[int, int]:
        assert isinstance(layer, nn.Linear)
        return layer.in_features, layer.out_features

    def start(self, A: Tensor, B: Tensor) -> None:
        # Uniform in +-1/sqrt(in), as nn.Linear itself starts; B = 0 makes the update zero.
        nn.init.kaiming_uniform_(A, a=math.sqrt(5))
        nn.init.zeros_(B)

    def product(self, layer: nn.Module, x: Tensor, A: Tensor, B: Tensor, scale: float) -> Tensor:
        h = F.linear(x, A.to(x.dtype))  # (..., rank)
        return F.linear(h * scale, B.to(x.dtype))  # (..., out)

    def add(self, layer: nn.Module, x: Tensor, y: Tensor, update: LowRank) -> Tensor | None:
        return add_product(layer, x, y, update)

    def kernel(self, layer: nn.Module) -> tuple[int, ...]:
        return ()

    def matrix(self, layer: nn.Module) -> Tensor:
        assert isinstance(layer.weight, Tensor)
        return layer.weight

    def layout(self, layer: nn.Module, matrix: Tensor) -> Tensor:
        return matrix

    def per_output(self, layer: nn.Module, values: Tensor) -> Tensor:
        return values
