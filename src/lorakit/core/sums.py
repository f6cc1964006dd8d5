"""What a merge makes of a layer's parameters, wide, before it is rounded."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

# Numbers that are looked at together on a CPU, so that they and what is made of them stay in its
# cache (and float32 counts them exactly).
PIECE = 1 << 16


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
        if change.stride() != value.stride():
            self[name] = self[name] + change
        elif change.device.type != "cpu" or not change.is_contiguous():
            self[name] = change.add_(value)
        else:
            # In pieces: to add another dtype makes a copy first, which is to stay in the cache.
            for part, own in zip(change.view(-1).split(PIECE), value.reshape(-1).split(PIECE)):
                part.add_(own)
            self[name] = change
