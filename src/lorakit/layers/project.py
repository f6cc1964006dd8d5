"""The first half of a linear update, h = x A^T, for one factor or several that take the same x."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lorakit.layers.dropout import Dropped


class Project(torch.autograd.Function):
    """x (..., in) and factors A (rank, in) -> h (tokens, sum of ranks), side by side."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, drop: Dropped | None, *factors: Tensor) -> Tensor:
        """One product for all factors, which take the same x."""
        A = _together(factors, x.dtype)
        rows = x.reshape(-1, x.shape[-1])
        ctx.save_for_backward(x, A)
        ctx.drop, ctx.ranks = drop, [len(factor) for factor in factors]
        h = (rows if drop is None else drop.of(rows)) @ A.T
        return h if drop is None else h.mul_(drop.scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        """The gradients of x and of each factor."""
        (dh,) = gradients
        x, A = ctx.saved_tensors
        drop, wanted = ctx.drop, ctx.needs_input_grad
        rows = x.reshape(-1, x.shape[-1])
        if drop is not None:
            dh = dh * drop.scale
        dx = dA = None
        if any(wanted[2:]):
            dA = dh.T @ (rows if drop is None else drop.of(rows))
        if wanted[0]:
            dx = dh @ A
            dx = (dx if drop is None else drop.into(dx)).view(x.shape)
        parts = [None] * len(ctx.ranks) if dA is None else dA.split(ctx.ranks)
        return dx, None, *parts


def _together(factors: tuple[Tensor, ...], dtype: torch.dtype) -> Tensor:
    if len(factors) == 1:
        return factors[0].to(dtype)
    return torch.cat([factor.to(dtype) for factor in factors])
