"""nn.Embedding, and transformers' embeddings that multiply their rows by a constant."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from lorakit.core.errors import UnsupportedError
from lorakit.core.update import LowRank


class EmbeddingGeometry:
    """A is (rank, vocabulary), B is (width, rank): the table grows by scale (B A)^T.

    A looked-up row needs one column of A alone, so the product is never formed. There is no
    dropout: the input is a whole number.
    """

    name = "embedding"
    zero = "A"
    quantised = False
    stacks = False

    def accepts(self, layer: nn.Module) -> bool:
        return type(layer) is nn.Embedding or _is_scaled(layer)

    def size(self, layer: nn.Module) -> tuple[int, int]:
        assert isinstance(layer, nn.Embedding)
        if layer.max_norm is not None:
            raise UnsupportedError(
                "An embedding with max_norm writes into its weight in forward, which would change "
                "the frozen base. Set max_norm to None, or leave this layer out of the plan."
            )
        return layer.num_embeddings, layer.embedding_dim

    def start(self, A: Tensor, B: Tensor) -> None:
        # The looked-up factor starts at zero, as in loralib: rows that are never seen stay as
        # they are.
        nn.init.zeros_(A)
        nn.init.normal_(B)

    def product(self, layer: nn.Module, x: Tensor, A: Tensor, B: Tensor, scale: float) -> Tensor:
        assert isinstance(layer, nn.Embedding)
        dtype = layer.weight.dtype
        h = F.embedding(x, A.T.to(dtype), padding_idx=layer.padding_idx)  # (..., rank)
        made = F.linear(h * scale, B.to(dtype))  # (..., width)
        return made * layer.embed_scale if _is_scaled(layer) else made  # type: ignore[operator]

    def add(self, layer: nn.Module, x: Tensor, y: Tensor, update: LowRank) -> Tensor | None:
        """Not in place: `product` makes it."""
        del layer, x, y, update

    def kernel(self, layer: nn.Module) -> tuple[int, ...]:
        return ()

    def matrix(self, layer: nn.Module) -> Tensor:
        assert isinstance(layer.weight, Tensor)
        return layer.weight.T

    def layout(self, layer: nn.Module, matrix: Tensor) -> Tensor:
        return matrix.T

    def per_output(self, layer: nn.Module, values: Tensor) -> Tensor:
        return values


def _is_scaled(layer: nn.Module) -> bool:
    """Whether this is one of transformers' `...ScaledWordEmbedding`, y = embed_scale * row."""
    kind = type(layer)
    return (
        isinstance(layer, nn.Embedding)
        and kind.__module__.startswith("transformers.models.")
        and kind.__name__.endswith("ScaledWordEmbedding")
        and hasattr(layer, "embed_scale")
    )
