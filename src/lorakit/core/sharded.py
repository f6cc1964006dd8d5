"""Models of which each process holds a part, as FSDP2's `fully_shard` makes them."""

from __future__ import annotations

from torch import Tensor, nn


def gathered(value: Tensor) -> Tensor:
    """All of a tensor; where processes hold parts of it, every one of them must ask for it."""
    gather = getattr(value, "full_tensor", None)
    return value if gather is None else gather()


def class_of(model: nn.Module) -> str:
    """The name of the model's class; `fully_shard` puts one of its own over it."""
    first, *rest = type(model).__bases__
    return (rest[0] if rest and first.__name__ == "FSDPModule" else type(model)).__name__
