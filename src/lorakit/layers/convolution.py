"""nn.Conv1d, nn.Conv2d and nn.Conv3d: weight (out, in / groups, *kernel)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lorakit.core.update import LowRank
from lorakit.layers.linear import LinearGeometry

_CONVOLVE: dict[type[nn.Module], Any] = {
    nn.Conv1d: F.conv1d, nn.Conv2d: F.conv2d, nn.Conv3d: F.conv3d,
}  # fmt: skip


class ConvolutionGeometry(LinearGeometry):
    """A convolution of `rank` channels with the layer's kernel, then one of a single point.

    A is (rank, in / groups * points of the kernel), B is (out, rank): B A is the weight, read as a
    matrix with a row for each output channel. In files A is (rank, in / groups, *kernel) and B
    (out, rank, 1, ...). Groups share A, so that the update can be merged whatever their number.
    """

    name = "convolution"
    stacks = False

    def accepts(self, layer: nn.Module) -> bool:
        return type(layer) in _CONVOLVE

    def size(self, layer: nn.Module) -> tuple[int, int]:
        assert isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Conv3d))
        return layer.weight[0].numel(), layer.out_channels

    def add(self, layer: nn.Module, x: Tensor, y: Tensor, update: LowRank) -> Tensor | None:
        """Not in place: `product` makes it."""
        del layer, x, y, update

    def kernel(self, layer: nn.Module) -> tuple[int, ...]:
        assert isinstance(layer.weight, Tensor)
        return tuple(layer.weight.shape[2:])

    def product(self, layer: nn.Module, x: Tensor, A: Tensor, B: Tensor, scale: float) -> Tensor:
        assert isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Conv3d))
        convolve = _CONVOLVE[type(layer)]
        padding: Any = layer.padding
        if layer.padding_mode != "zeros":
            x = F.pad(x, layer._reversed_padding_repeated_twice, mode=layer.padding_mode)
            padding = 0
        A = A.to(x.dtype).view(-1, *layer.weight.shape[1:])
        A = torch.cat([A] * layer.groups)  # (groups * rank, in / groups, *kernel)
        h = convolve(x, A, None, layer.stride, padding, layer.dilation, layer.groups)
        B = B.to(x.dtype).view(*B.shape, *[1] * (layer.weight.dim() - 2))
        return convolve(h * scale, B, groups=layer.groups)

    def matrix(self, layer: nn.Module) -> Tensor:
        assert isinstance(layer.weight, Tensor)
        return layer.weight.flatten(1)

    def layout(self, layer: nn.Module, matrix: Tensor) -> Tensor:
        assert isinstance(layer.weight, Tensor)
        return matrix.view(layer.weight.shape)

    def per_output(self, layer: nn.Module, values: Tensor) -> Tensor:
        return values.view(-1, *[1] * len(self.kernel(layer)))
