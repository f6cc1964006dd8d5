"""Dropout without a mask that is kept: its positions are drawn again from a seed.

Each number is dropped by itself with probability p (Srivastava et al. 2014). What is drawn are the
gaps from one dropped number to the next, which are geometric: p draws for each number in the place
of one, and the same result.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_DENSE = 0.3  # from this share on a mask is drawn faster than gaps


@dataclass(frozen=True)
class Dropped:
    """One draw of dropout: which of the numbers are zero is decided by the seed."""

    p: float
    seed: int

    @classmethod
    def draw(cls, p: float) -> Dropped:
        """A new draw, by torch's own generator, so that a seed and a checkpoint repeat it."""
        return cls(p, int(torch.randint(2**62, (), dtype=torch.int64)))

    @property
    def scale(self) -> float:
        """What keeps the mean: 1 / (1 - p)."""
        return 1 / (1 - self.p)

    def of(self, x: Tensor) -> Tensor:
        """A copy of x with its dropped numbers zero; not scaled."""
        return self.into(x.clone(memory_format=torch.contiguous_format))

    def into(self, x: Tensor) -> Tensor:
        """The same, in x itself, which must be contiguous."""
        flat = x.view(-1)
        if x.is_meta:  # nothing has a value there: only the memory of a step is counted
            drawn = torch.empty(
                round(self.p * len(flat) * 1.05), dtype=torch.float64, device="meta"
            )
            flat.index_fill_(0, torch.log1p(-drawn).to(torch.int64), 0)
        elif x.device.type != "cpu" or self.p >= _DENSE:
            numbers = torch.Generator(x.device).manual_seed(self.seed)
            drawn = torch.rand(flat.shape, generator=numbers, device=x.device)
            flat.masked_fill_(drawn < self.p, 0)
        else:
            flat.index_fill_(0, self.positions(flat.numel()), 0)
        return x

    def positions(self, count: int) -> Tensor:
        """The dropped ones among `count` numbers, rising."""
        numbers = torch.Generator().manual_seed(self.seed)
        rate = math.log1p(-self.p)
        found, last = [], -1
        while last < count:
            more = int((count - last) * self.p * 1.05) + 16
            # 1 - u is above 0, so that its logarithm is finite; u < p is a gap of one.
            u = torch.rand(more, generator=numbers, dtype=torch.float64)
            steps = torch.log1p(-u).div_(rate).floor_().add_(1)
            places = steps.cumsum_(0).add_(last).to(torch.int64)
            found.append(places)
            last = int(places[-1])
        every = torch.cat(found) if len(found) > 1 else found[0]
        return every[: int(torch.searchsorted(every, count))]
