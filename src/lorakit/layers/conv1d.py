"""GPT-2's Conv1D of transformers: a linear layer with a transposed weight (in, out)."""

from __future__ import annotations

from torch import Tensor, nn

from lorakit.layers.linear import LinearGeometry


class TransposedLinearGeometry(LinearGeometry):
    """The update of a linear layer whose weight is stored as (in, out)."""

    name = "conv1d"

    def accepts(self, layer: nn.Module) -> bool:
        # By name: transformers is no dependency of this layer of the house.
        kind = type(layer)
        return (kind.__module__, kind.__qualname__) == ("transformers.pytorch_utils", "Conv1D")

    def size(self, layer: nn.Module) -> tuple[int, int]:
        assert isinstance(layer.weight, Tensor)
        rows, columns = layer.weight.shape
        return rows, columns

    def matrix(self, layer: nn.Module) -> Tensor:
        assert isinstance(layer.weight, Tensor)
        return layer.weight.T

    def layout(self, layer: nn.Module, matrix: Tensor) -> Tensor:
        return matrix.T
