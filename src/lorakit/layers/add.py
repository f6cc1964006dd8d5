"""The fast form of a linear update: y += s (x A^T) B^T, added in place to what the layer gave.

A and B are kept in float32 and cast down at use, never x up. Nothing of the size of x or y is made
but the gradient of x; of the forward pass h = x A^T is kept, rank numbers for each token.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from lorakit.core.free import FEW, is_free, wide
from lorakit.core.update import LowRank
from lorakit.layers.shared import project


def add_product(layer: nn.Module, x: Tensor, y: Tensor, update: LowRank) -> Tensor | None:
    """Y with the update's product added in place, or None where that would not be right."""
    # An anchored update is zero to the bit at its start only as the difference of two products;
    # quantised layers give views of what is theirs.
    if update.anchored or update.geometry.quantised or not is_free(layer, x, y):
        return None
    A, B = update.factors()
    dropping = update.dropout and update.training
    if update.in_float32 or (x.numel() <= FEW * x.shape[-1] and not dropping):
        return _add_wide(update.drop(x) if dropping else x, y, A, update.spread(B), update.scale)
    h = project(update, x, A)
    return AddUp.apply(y, h, update.spread(B), update.scale)


def _add_wide(x: Tensor, y: Tensor, A: Tensor, B: Tensor, scale: float) -> Tensor:
    """The same by native operations in float32, rounded once: where asked for, and for few tokens.

    There calls count and not bytes: a product of a few rows in two bytes a number takes ten times
    as long to begin as one in float32, in which the factors are kept anyway.
    """
    dtype = wide(x.dtype)
    if A.dtype != dtype:
        A, B = A.to(dtype), B.to(dtype)
    return y.add_(F.linear(F.linear(x.to(dtype), A), B), alpha=scale)


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
