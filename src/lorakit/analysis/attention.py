"""Scaled dot-product attention on the meta device, held in memory as a CPU's kernel holds it.

Without a device torch makes the attention from single products, which keep scores of (tokens,
tokens). Its kernel for CPUs keeps query, key, value, their output and one number for each query
(Dao et al. 2022); it serves where nothing of the scores is dropped or trained.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from lorakit.analysis.allocations import Allocations


class KernelAttention(TorchFunctionMode):
    """Puts the kernel's shapes in the place of torch's own for meta tensors, while entered."""

    def __init__(self, seen: Allocations):
        super().__init__()
        self.seen = seen

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is not F.scaled_dot_product_attention:
            return func(*args, **kwargs)
        return self._attend(func, *args, **kwargs)

    def _attend(
        self, func: Any, query: Tensor, key: Tensor, value: Tensor,
        attn_mask: Tensor | None = None, dropout_p: float = 0.0, is_causal: bool = False,
        **others: Any,
    ) -> Tensor:  # fmt: skip
        trained = attn_mask is not None and attn_mask.requires_grad
        plain = query.dim() == 4 and query.shape[-1] == key.shape[-1] == value.shape[-1]
        if not query.is_meta or dropout_p or trained or not plain:
            return func(query, key, value, attn_mask, dropout_p, is_causal, **others)
        if attn_mask is not None and attn_mask.dtype == torch.bool:  # the kernel adds it
            attn_mask = torch.where(attn_mask, 0.0, -torch.inf).to(query.dtype)
        return _Kernel.apply(query, key, value, attn_mask, is_causal, self.seen)


class _Kernel(torch.autograd.Function):
    """Query (batch, heads, tokens, head), key and value -> the attention's output, as query."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool,
        seen: Allocations,
    ) -> Tensor:  # fmt: skip
        """The output, laid out by tokens as the kernel writes it."""
        batch, heads, tokens, size = query.shape
        out = query.new_empty(batch, tokens, heads, size).transpose(1, 2)
        sums = query.new_empty(batch, heads, tokens, dtype=torch.float32)
        ctx.save_for_backward(query, key, value, mask, out, sums)
        products = batch * heads * tokens * key.shape[2] * size * 2
        ctx.flops, ctx.seen = products // 2 if causal else products, seen
        seen.did(2 * ctx.flops, 2 * query.nbytes + key.nbytes + value.nbytes)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        """The gradients of query, key and value: five products in the place of two."""
        del gradients
        query, key, value, *_ = ctx.saved_tensors
        ctx.seen.did(5 * ctx.flops, 4 * query.nbytes + 2 * (key.nbytes + value.nbytes))
        made = (x.new_empty(x.transpose(1, 2).shape).transpose(1, 2) for x in (query, key, value))
        return (*made, None, None, None)
