"""The fast form of a linear update: y += s (x A^T) B^T, added in place to what the layer gave.

A and B are kept in float32 and cast down at use, never x up. Nothing of the size of x or y is made
but the gradient of x; of the forward pass h = x A^T is kept, rank numbers for each token.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from lorakit.core.update import LowRank
from lorakit.layers.shared import project


def add_product(layer: nn.Module, x: Tensor, y: Tensor, update: LowRank) -> Tensor | None:
    """Y with the update's product added in place, or None where that would not be right."""
    # An anchored update is zero to the bit at its start only as the difference of two products;
    # quantised layers give views of what is theirs.
    if update.anchor is not None or update.geometry.quantised or not _is_free(layer, x, y):
        return None
    A, B = update.factors()
    h = project(update, x, A)
    return AddUp.apply(y, h, update.spread(B), update.scale)


def _is_free(layer: nn.Module, x: Tensor, y: Tensor) -> bool:
    """Whether y may be written to, and its dtype is that of the product.

    Nobody but us has seen it if ours is the only hook; transforms of functions, compilers and
    autocast want operations that they know.
    """
    return (
        type(y) is Tensor
        and x.dtype == y.dtype
        and y.is_contiguous()
        and len(layer._forward_hooks) == 1
        and not (y.is_leaf and y.requires_grad)
        and not torch.compiler.is_compiling()
        and not torch._C._are_functorch_transforms_active()
        and not torch.is_autocast_enabled(x.device.type)
    )


class AddUp(torch.autograd.Function):
    """y (..., out) += scale h B^T, for h (tokens, rank) and B (out, rank)."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, h: Tensor, B: Tensor, scale: float) -> Tensor:
        """Change y, which is the layer's own and nobody else's yet."""
        B = B.to(y.dtype)
        y.view(-1, y.shape[-1]).addmm_(h, B.T, alpha=scale)
        ctx.mark_dirty(y)
        ctx.save_for_backward(h, B)
        ctx.scale = scale
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        """The gradients of y, h and B."""
        (dy,) = gradients
        h, B = ctx.saved_tensors
        rows = dy.reshape(-1, dy.shape[-1])
        dh = (rows @ B).mul_(ctx.scale) if ctx.needs_input_grad[1] else None
        dB = (h.T @ rows).T * ctx.scale if ctx.needs_input_grad[2] else None
        return dy, dh, dB, None
