"""Routes: which adapters act on a call, the same for every row or one for each row."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch

from lorakit.core.errors import RoutingError

T = TypeVar("T")


@dataclass(frozen=True)
class Route:
    """Internal ids of the adapters that act: `ids` add up on every row, or `rows` has one per row.

    The batch is the first dimension of what a layer gets. A layer that gets k rows for each sample
    (beams, flattened tokens) has them next to each other, as `repeat_interleave` and `flatten` do.
    """

    ids: tuple[str, ...] = ()
    rows: tuple[str | None, ...] | None = None
    _memo: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)

    def members(self) -> frozenset[str]:
        """Every id that acts on some row."""
        return frozenset(self.ids) if self.rows is None else frozenset(filter(None, self.rows))

    def indices(self, count: int, device: torch.device, path: str) -> dict[str, torch.Tensor]:
        """For each id of a mixed batch, the rows (int64) of the `count` rows at a layer.

        Raises `RoutingError` where the layer's rows cannot be told apart by sample.
        """
        assert self.rows is not None
        samples = len(self.rows)
        if samples == 0 or count % samples:
            raise RoutingError(
                f"{path} got {count} rows for the {samples} samples named in per_sample; expected "
                f"{samples} rows or a multiple. Name one adapter (or None) for each row of the "
                "batch, and leave out of the plan layers that do not see the batch first."
            )
        return self.known(
            (device, count),
            lambda: {
                adapter: torch.tensor(rows, device=device)
                for adapter, rows in self.by_adapter(count).items()
            },
        )

    def by_adapter(self, count: int) -> dict[str, list[int]]:
        """For each id of a mixed batch, its rows among `count`."""
        assert self.rows is not None
        repeat = count // len(self.rows)
        found: dict[str, list[int]] = {}
        for sample, adapter in enumerate(self.rows):
            if adapter is not None:
                rows = range(sample * repeat, (sample + 1) * repeat)
                found.setdefault(adapter, []).extend(rows)
        return found

    def known(self, key: Hashable, make: Callable[[], T]) -> T:
        """What was made for a key before, on this route, or is made now."""
        if key not in self._memo:
            self._memo[key] = make()
        return self._memo[key]


BASE = Route()
