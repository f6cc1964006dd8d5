"""What rounding to the base's dtype did to a merge, counted weight by weight."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lorakit.core.errors import MergeError
from lorakit.core.site import Sum

# Numbers that a report is made of at a time: a CPU keeps them and what is made of them in its cache
# (and float32 counts them exactly).
_PIECE = 1 << 16


@dataclass(frozen=True)
class MergeReport:
    """What rounding to the base's dtype did to a merge.

    `unchanged` is the share of entries with a delta that rounding left at the base's value, `error`
    the largest distance, over all entries, between the merged weight and the exact sum, and
    `delta_error` the relative error (Frobenius) of the change that there is now. `dequantised`
    counts the quantised layers for which a plain or newly quantised one stands now.
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
        size = _PIECE if value.device.type == "cpu" else _PIECE << 6
        whole = (total.before, total.after, value)
        for before, after, now in zip(*(part.reshape(-1).split(size) for part in whole)):
            self._add(before, after, now.to(after.dtype), dtype)

    def _add(self, before: Tensor, after: Tensor, value: Tensor, dtype: torch.dtype) -> None:
        base = before.to(after.dtype)
        gap, change = value - after, after - base
        error = max(map(abs, map(float, gap.aminmax()))) if gap.numel() else 0.0
        if not math.isfinite(error):
            raise MergeError(
                f"The merged weight does not fit {dtype}: a value is not finite. Merge into a base "
                "in float32 or bfloat16."
            )
        # Ones and zeros in the floats' own dtype take a fifth of the time of booleans.
        moved = torch.ne(change, 0, out=torch.empty_like(change))
        old = base if before.dtype == dtype else before.to(dtype).to(base.dtype)
        kept = torch.eq(value, old, out=torch.empty_like(change))
        self.changed += int(moved.sum())
        self.swallowed += int(moved.dot(kept))
        self.error = max(self.error, error)
        self.missed += _squares(gap)
        self.moved += _squares(change)


def _squares(values: Tensor) -> float:
    wide = values.double()
    return float(wide.dot(wide))
