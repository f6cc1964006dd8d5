"""The loss of tokens under a head with many outputs, some tokens at a time.

The logits of all tokens are the largest tensors of a training step: tokens x vocabulary, in the
model's dtype, in float32, and again for their gradient. Here a chunk of them is made, counted,
turned into the gradient of what the head was given, and forgotten, all in the forward pass.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

IGNORED = -100  # the label of tokens without loss, as `F.cross_entropy` has it
LOGITS = 2**22  # made at a time: 16 MB in float32
_ROWS = 64  # a chunk's rows are a multiple of these, as products like it


def token_loss(x: Tensor, head: nn.Linear, labels: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """The summed cross entropy of tokens, in float32.

    x (tokens, in) gets the gradient, the head none; labels (tokens). Tokens whose label is -100 do
    not count, and the head is not applied to them. `smoothing` is the share of each label that is
    spread over all (Szegedy et al. 2016), as in `F.cross_entropy`.
    """
    counted = (labels != IGNORED).nonzero().squeeze(1)
    if len(counted) < len(labels):
        x, labels = x.index_select(0, counted), labels.index_select(0, counted)
    return TokenLoss.apply(x, head.weight, head.bias, labels, smoothing)


class TokenLoss(torch.autograd.Function):
    """x (tokens, in), weight (out, in), bias (out), labels (tokens) -> their summed loss."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, smoothing: float
    ) -> Tensor:
        """The loss, and at once the gradient of x, which is all that is kept."""
        size = max(_ROWS, LOGITS // len(weight) // _ROWS * _ROWS)
        wide = torch.promote_types(x.dtype, torch.float32)
        total = x.new_zeros((), dtype=wide)
        dx = torch.empty_like(x, memory_format=torch.contiguous_format)
        for part, own, into in zip(x.split(size), labels.split(size), dx.split(size)):
            found = F.linear(part, weight, bias).log_softmax(1, dtype=wide)
            own = own.unsqueeze(1)
            total -= (1 - smoothing) * found.gather(1, own).sum()
            if smoothing:
                total -= smoothing * found.mean(1).sum()
            if ctx.needs_input_grad[0]:
                found.exp_()
                if smoothing:
                    found.sub_(smoothing / len(weight))
                found.scatter_add_(1, own, found.new_full(own.shape, smoothing - 1))
                torch.mm(found.to(x.dtype), weight, out=into)
        ctx.save_for_backward(dx)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        """The gradient of x."""
        (dx,) = ctx.saved_tensors
        return dx * gradients[0], None, None, None, None
