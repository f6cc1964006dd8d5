"""When an update may write to a layer's output, and in which dtype few tokens are multiplied."""

from __future__ import annotations

import torch
from torch import Tensor, nn

FEW = 32  # tokens up to which a product is faster in float32 than its start in two bytes a number


def is_free(layer: nn.Module, x: Tensor, y: Tensor) -> bool:
    """Whether y, the layer's output for x, may be written to, and its dtype is that of the product.

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
        and (x.is_meta or not torch.is_autocast_enabled(x.device.type))
    )


def wide(dtype: torch.dtype) -> torch.dtype:
    """The dtype, or float32 where it has two bytes a number or less."""
    return torch.float32 if dtype.itemsize < 4 else dtype
