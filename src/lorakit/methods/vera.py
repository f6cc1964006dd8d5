"""VeRA: one frozen random A and B for all layers, and two trained vectors for each.

W + diag(b) B diag(d) A, with A and B drawn once and cut to each layer's size; d starts at a small
constant and b at zero (Kopiczko et al. 2024, equation 2). It has no scale. There are rank + out
numbers to train for each layer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lorakit.core.errors import PlanError, UnsupportedError
from lorakit.core.state import LowRankState
from lorakit.core.update import LowRank, Update
from lorakit.layers.form import Form
from lorakit.methods.lora import DEFAULT, LoRA
from lorakit.methods.start import MATRICES, Factors, Places


@dataclass(frozen=True)
class VeRA(LoRA):
    """The options of VeRA: those of LoRA but alpha, rslora and init; `start_d` is what d starts at.

    All layers of an adapter have the same rank, and it is for matrix products as a whole.
    """

    start_d: float = 0.1

    name: ClassVar[str] = "vera"

    def __post_init__(self) -> None:
        super().__post_init__()
        given = (self.alpha, self.rslora, self.init)
        if not isinstance(self.alpha, Mapping) and given != (LoRA.alpha, False, DEFAULT):
            raise PlanError("VeRA has no scale and one way to start: leave alpha, rslora and init.")

    def scale(self, alpha: float, rank: int) -> float:
        """One: the vectors are all the scale there is."""
        del alpha, rank
        return 1.0

    def updates(self, root: nn.Module, plan: Mapping[str, int]) -> dict[str, dict[str, Update]]:
        """Fresh updates for a plan of one rank; nothing is put on the model."""
        if len({rank for rank in plan.values() if rank}) > 1:
            ranks = sorted(set(plan.values()))
            raise PlanError(f"VeRA has one rank for all layers; the plan has {ranks}. Choose one.")
        return super().updates(root, plan)

    def _start(self, root: nn.Module, places: Places) -> dict[str, Factors]:
        """The shared A and B, uniform as nn.Linear starts, cut to each target's size."""
        del root
        device = next(iter(places.values())).form.device
        sizes = [place.form.size for place in places.values()]
        rank = next(place.rank for place in places.values())
        A = torch.empty(rank, max(columns for columns, _ in sizes), dtype=self.dtype, device=device)
        B = torch.empty(max(rows for _, rows in sizes), rank, dtype=self.dtype, device=device)
        for factor in (A, B):
            nn.init.kaiming_uniform_(factor, a=math.sqrt(5))
        return {
            target: Factors(A[:, : place.form.size[0]], B[: place.form.size[1]])
            for target, place in places.items()
        }

    def _kept(self, form: Form, start: Factors) -> Factors:
        """Not copied: all layers share the memory of one A and one B."""
        A, B = (factor.to(form.device, self.dtype) for factor in (start.A, start.B))
        return Factors(A, B)

    def _low_rank(self, form: Form, factors: Factors, alpha: float) -> LowRank:
        if form.part or form.geometry.name not in MATRICES:
            raise UnsupportedError(
                f"{form.path!r}: VeRA is for matrix products as a whole, neither for a part of one "
                f"nor for a layer of the type {form.geometry.name}. Leave it out, or use LoRA."
            )
        given = self._given(form, factors, alpha) | {"alpha": float(len(factors.A))}
        return Vectors(form.geometry, factors.A, factors.B, start_d=self.start_d, **given)

    def _known(self, form: Form, low: LowRankState) -> LowRank:
        update = super()._known(form, low)
        assert isinstance(update, Vectors)
        assert low.vectors is not None
        update.d.data, update.b.data = (v.to(update.d, copy=True) for v in low.vectors)
        return update


class Vectors(LowRank):
    """The update of one layer: frozen A and B, and trained d (rank,) and b (out,)."""

    def __init__(self, *args: Any, start_d: float, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.A.requires_grad_(False)
        self.B.requires_grad_(False)
        self.d = nn.Parameter(torch.full_like(self.A[:, 0], start_d))
        self.b = nn.Parameter(torch.zeros_like(self.B[:, 0]))

    @property
    def vectors(self) -> tuple[Tensor, Tensor]:
        """(d, b), which are trained."""
        return self.d, self.b

    def factors(self) -> tuple[Tensor, Tensor]:
        """diag(d) A and diag(b) B."""
        return self.d[:, None] * self.A, self.b[:, None] * self.B
