"""The order of training rows: a function of seed and epoch, so that it can be resumed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler

POOL = 50  # batches whose rows are sorted by length together


class SeededSampler(Sampler[int]):
    """Every row once an epoch, in random order; with lengths, similar ones share a batch.

    The order is a function of (seed, epoch): it needs no state of a random generator, and a run
    that is resumed in the middle of an epoch finds the same one.
    """

    def __init__(self, count: int, *, seed: int, batch: int, lengths: Sequence[int] | None = None):
        self.count = count
        self.seed = seed
        self.batch = batch
        self.lengths = lengths
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + self.epoch) % 2**63)
        order = torch.randperm(self.count, generator=generator).tolist()
        if self.lengths is None:
            return iter(order)
        return iter(self._grouped(order, generator))

    def _grouped(self, order: list[int], generator: torch.Generator) -> list[int]:
        lengths = self.lengths
        assert lengths is not None
        size = self.batch * POOL
        batches: list[list[int]] = []
        for at in range(0, len(order), size):
            pool = sorted(order[at : at + size], key=lambda row: -lengths[row])
            batches += [pool[i : i + self.batch] for i in range(0, len(pool), self.batch)]
        # Only the last batch may be short, and it must come last: all others count on their size.
        last = batches.pop() if len(batches[-1]) < self.batch else []
        shuffled = torch.randperm(len(batches), generator=generator).tolist()
        return [row for place in shuffled for row in batches[place]] + last
