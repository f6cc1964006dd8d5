"""What rounding to the base's dtype did to a merge, counted weight by weight."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lorakit.core.errors import MergeError
from lorakit.core.site import Sum
from lorakit.core.sums import PIECE


@dataclass(frozen=True)
class MergeReport:
    """What rounding to the base's dtype did to a merge.

    `unchanged` is the share of entries with a delta that rounding left at the base's value, `error`
    the largest distance, over all entries, between the merged weight and the exact sum, and
    `delta_error` the relative error (Frobenius, to five digits) of the change that there is now.
    `dequantised` counts the quantised layers for which a plain or newly quantised one stands now.
    """

    names: tuple[str, ...]
    tensors: int
    unchanged: float
    error: float
    delta_error: float
    dequantised: int = 0

    def __str__(self) -> str:
        packed = f"; {self.dequantised} of them were quantised" if self.dequantised else ""
        return (
            f"merged {' + '.join(map(repr, self.names))} into {self.tensors} tensors{packed}: "
            f"rounding left {self.unchanged:.1%} of the changed weights as they were; the change "
            f"is off by {self.delta_error:.2g} of its size, a weight by {self.error:.2g} at most"
        )


@dataclass
class Tally:
    """The figures of a report, added up tensor by tensor."""

    changed: int = 0
    swallowed: int = 0
    error: float = 0.0
    missed: float = 0.0  # squares of what rounding took or gave, and of the change itself
    moved: float = 0.0

    def add(self, total: Sum, value: Tensor, dtype: torch.dtype) -> None:
        """Count one tensor: the exact sum, and what stands for it now, in `dtype`."""
        size = PIECE if value.device.type == "cpu" else PIECE << 6
        whole = [part.reshape(-1) for part in (total.before, total.after, value)]
        room = whole[1].new_empty(5, min(size, max(1, whole[1].numel())))
        for before, after, now in zip(*(part.split(size) for part in whole)):
            self._add(before, after, now, room[:, : len(after)], dtype)

    def _add(
        self, before: Tensor, after: Tensor, value: Tensor, room: Tensor, dtype: torch.dtype
    ) -> None:
        """Count a piece. All that is made of it goes into `room`, which the cache has already."""
        base, now, change, gap, moved = room
        base.copy_(before)
        now.copy_(value)
        torch.sub(after, base, out=change)
        torch.sub(now, after, out=gap)
        error = max(map(abs, map(float, gap.aminmax()))) if gap.numel() else 0.0
        if not math.isfinite(error):
            raise MergeError(
                f"The merged weight does not fit {dtype}: a value is not finite. Merge into a base "
                "in float32 or bfloat16."
            )
        # Ones and zeros in the floats' own dtype take a fifth of the time of booleans.
        torch.ne(change, 0, out=moved)
        self.changed += int(moved.sum())
        self.error = max(self.error, error)
        self.missed += _squares(gap)
        self.moved += _squares(change)
        if before.dtype != dtype:
            base.copy_(before.to(dtype))
        self.swallowed += int(moved.dot(torch.eq(now, base, out=change)))


def _squares(values: Tensor) -> float:
    """The sum of squares; in float64 where float32 has too few exponents for them."""
    found = float(values.dot(values))
    if 1e-30 < found < 1e30 or values.dtype == torch.float64:
        return found
    wide = values.double()
    return float(wide.dot(wide))
