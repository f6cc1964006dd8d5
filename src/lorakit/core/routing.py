"""Routes: which adapters act on a call, the same for every row or one for each row."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from lorakit.core.errors import RoutingError


@dataclass(frozen=True)
class Route:
    """Internal ids of the adapters that act: `ids` add up on every row, or `rows` has one per row.

    The batch is the first dimension of what a layer gets. A layer that gets k rows for each sample
    (beams, flattened tokens) has them next to each other, as `repeat_interleave` and `flatten` do.
    """

    ids: tuple[str, ...] = ()
    rows: tuple[str | None, ...] | None = None
    _indices: dict[tuple[torch.device, int], dict[str, torch.Tensor]] = field(
        default_factory=dict, compare=False, repr=False
    )

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
        key = (device, count)
        if key not in self._indices:
            self._indices[key] = self._build(count // samples, device)
        return self._indices[key]

    def _build(self, repeat: int, device: torch.device) -> dict[str, torch.Tensor]:
        assert self.rows is not None
        found: dict[str, list[int]] = {}
        for sample, adapter in enumerate(self.rows):
            if adapter is not None:
                rows = range(sample * repeat, (sample + 1) * repeat)
                found.setdefault(adapter, []).extend(rows)
        return {adapter: torch.tensor(rows, device=device) for adapter, rows in found.items()}


BASE = Route()
