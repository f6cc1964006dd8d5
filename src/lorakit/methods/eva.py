"""EVA: A starts at the directions in which the layer's inputs vary most, B at zero.

The right singular vectors of the inputs, found batch by batch without keeping them (Paischer et al.
2024, section 3). With B = 0 the function is unchanged, so that nothing needs an anchor.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lorakit.core.errors import PlanError
from lorakit.core.plan import Plan, check_rank
from lorakit.core.registry import root_of
from lorakit.layers.form import Form
from lorakit.methods.start import (
    Factors,
    Place,
    Places,
    answering,
    check_number,
    check_ranks,
    layers_of,
    mask_of,
    require_products,
    rows_of,
    run_batch,
    watched,
)


@dataclass(frozen=True, eq=False)
class EVA:
    """Start at the inputs' principal directions, seen in `batches` of the training data.

    A batch is what the model is called with: a mapping of arguments, a tuple, or a tensor. `spare`
    times as many directions as the rank are followed from batch to batch.
    """

    batches: Iterable[Any]
    spare: float = 2.0

    name: ClassVar[str] = "eva"

    def __post_init__(self) -> None:
        check_number(self.spare, "spare", least=1)

    def start(self, root: nn.Module, places: Places) -> dict[str, Factors]:
        """A (rank, in) with orthonormal rows, B (out, rank) zero."""
        seen = self._seen(root, places)
        for target, place in places.items():
            have = len(seen[place.form.path].values)
            if have < place.rank:
                raise PlanError(
                    f"init='eva' saw {have} directions in the inputs of {target!r}, whose rank is "
                    f"{place.rank}. Pass more batches, or lower the rank there."
                )
        return {
            target: Factors(_orthonormal(seen[place.form.path], place), _zeros(place))
            for target, place in places.items()
        }

    def plan(self, model: nn.Module, plan: Mapping[str, int]) -> Plan:
        """The plan's ranks dealt out anew, as many in all: to where inputs vary most.

        Directions are taken by the share of their layer's variance that they explain, at most
        `spare` times the plan's rank in one layer; a layer may end with none (section 3.2).
        """
        root = root_of(model)
        asked = {t: check_rank(rank, repr(t)) for t, rank in plan.items()}
        places = {t: Place(Form.of(root, t), rank, 1.0) for t, rank in asked.items() if rank}
        seen = self._seen(root, places)
        shares = []
        for target, place in places.items():
            values = seen[place.form.path].values.square()
            most = min(int(place.rank * self.spare), *place.form.size)
            share = values[:most] / values.sum().clamp_min(1e-30)
            shares += [(float(each), target) for each in share]
        shares.sort(key=lambda pair: -pair[0])
        wanted = sum(place.rank for place in places.values())
        if len(shares) < wanted:
            raise PlanError(
                f"init='eva' saw {len(shares)} directions in all, and the ranks are {wanted}. Pass "
                "more batches, or lower the ranks."
            )
        taken = [target for _, target in shares[:wanted]]
        return Plan({target: taken.count(target) for target in plan})

    def _seen(self, root: nn.Module, places: Places) -> dict[str, Directions]:
        require_products(self.name, places)
        check_ranks(self.name, places)
        wanted: dict[str, int] = {}
        for place in places.values():
            most = min(int(place.rank * self.spare), place.form.size[0])
            wanted[place.form.path] = max(wanted.get(place.form.path, 0), most)
        found = {path: Directions(count) for path, count in wanted.items()}
        batch: Any = None
        with answering(root), torch.no_grad():
            look = lambda path, x, _: found[path].add(rows_of(x, mask_of(batch, path)))  # noqa: E731
            with watched(layers_of(places), look):
                for batch in self.batches:
                    run_batch(root, batch)
        return found


class Directions:
    """The leading right singular vectors of all rows seen so far, at most `count` of them."""

    def __init__(self, count: int):
        self.count = count
        self.values = torch.empty(0)
        self.vectors = torch.empty(0, 0)

    def add(self, rows: Tensor) -> None:
        """Take in rows (n, in): the singular values of [S V^T; rows] are those of all rows."""
        if not torch.isfinite(rows).all():
            raise PlanError("init='eva': inputs are not finite. Look at the data and the base.")
        if len(self.values):
            rows = torch.cat([self.values[:, None] * self.vectors, rows])
        _, values, vectors = torch.linalg.svd(rows, full_matrices=False)
        kept = int((values > values[:1] * 1e-6).sum()) if len(values) else 0
        keep = min(self.count, kept)
        self.values, self.vectors = values[:keep], vectors[:keep]


def _orthonormal(seen: Directions, place: Place) -> Tensor:
    return seen.vectors[: place.rank].clone()


def _zeros(place: Place) -> Tensor:
    return torch.zeros(place.form.size[1], place.rank, device=place.form.device)
