"""The fast form of a linear update: added in place to what the layer gave, y += s (x A^T) B^T.

A and B are kept in float32 and cast down at use, never x up. Nothing of the size of x or y is made
but the gradient of x; of the forward pass h = x A^T is kept, rank numbers for each token.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class AddProduct(torch.autograd.Function):
    """y (..., out) += scale (x A^T) B^T, for x (..., in), A (rank, in), B (out, rank)."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, x: Tensor, A: Tensor, B: Tensor, scale: float) -> Tensor:
        """Change y, which is the layer's own and nobody else's yet."""
        A, B = A.to(x.dtype), B.to(x.dtype)
        rows = x.reshape(-1, x.shape[-1])
        h = rows @ A.T
        y.view(-1, y.shape[-1]).addmm_(h, B.T, alpha=scale)
        ctx.mark_dirty(y)
        ctx.save_for_backward(x, h, A, B)
        ctx.scale = scale
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        """The gradients of y, x, A and B."""
        (dy,) = gradients
        x, h, A, B = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        out = dy.reshape(-1, dy.shape[-1])
        dx = dA = dB = None
        if wanted[3]:
            dB = (h.T @ out).T
            dB = dB * ctx.scale
        if wanted[1] or wanted[2]:
            dh = (out @ B).mul_(ctx.scale)
            if wanted[2]:
                dA = dh.T @ x.reshape(-1, x.shape[-1])
            if wanted[1]:
                dx = (dh @ A).view(x.shape)
        return dy, dx, dA, dB, None
