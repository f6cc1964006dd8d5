"""What a forward pass keeps in memory for its backward pass."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def saved_bytes(step: Callable[[], object], model: torch.nn.Module) -> int:
    """The memory of tensors that autograd saves during a step, each storage once.

    Parameters and buffers of the model are there anyway and do not count.
    """
    own = {_storage(value) for value in [*model.parameters(), *model.buffers()]}
    seen: dict[int, int] = {}
    held: list[Tensor] = []  # so that no address is given twice

    def pack(value: Tensor) -> Tensor:
        if _storage(value) not in own:
            seen[_storage(value)] = value.untyped_storage().nbytes()
            held.append(value)
        return value

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        step()
    return sum(seen.values())


def _storage(value: Tensor) -> int:
    return value.untyped_storage().data_ptr()
