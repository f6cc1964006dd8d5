"""What a merge makes of a layer's parameters, wide, before it is rounded."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class Sums(dict[str, Tensor]):
    """What a merge makes of a layer's parameters, by dotted name, in the next wider dtype.

    Only what an update has changed is held: anything else is widened when it is looked at. A sum is
    rounded to the base's dtype once, at the end.
    """

    def __init__(self, own: Mapping[str, Tensor]):
        super().__init__()
        self.own = {name: value.detach() for name, value in own.items()}

    def __missing__(self, name: str) -> Tensor:
        dtype, _ = self.place(name)
        return self.own[name].to(dtype)

    def place(self, name: str) -> tuple[torch.dtype, torch.device]:
        """The dtype and device of a sum."""
        own = self.own[name]
        return torch.float32 if own.dtype.itemsize < 4 else torch.float64, own.device

    def add(self, name: str, change: Tensor) -> None:
        """Add a change, which is used up, in the dtype of the sum."""
        value = self[name] if name in self else self.own[name]
        # In the memory of the change, unless that would turn the weight round.
        alike = change.stride() == value.stride()
        self[name] = change.add_(value) if alike else self[name] + change
