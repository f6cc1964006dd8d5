"""VeRA: one frozen random A and B for all layers, and two trained vectors for each.

W + diag(b) B diag(d) A, with A and B drawn once and cut to each layer's size; d starts at a small
constant and b at zero (Kopiczko et al. 2024, equation 2). It has no scale. There are rank + out
numbers to train for each layer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lorakit.core.errors import PlanError, UnsupportedError
from lorakit.core.inject import find_layers
from lorakit.core.plan import check_rank, split_target
from lorakit.core.state import AdapterState, LowRankState
from lorakit.core.update import LowRank, Update
from lorakit.layers import MATRICES
from lorakit.layers.form import Form
from lorakit.layers.norm import is_norm
from lorakit.methods.lora import DEFAULT, LoRA
from lorakit.methods.start import Factors, Places, check_number


@dataclass(frozen=True)
class VeRA(LoRA):
    """The options of VeRA: those of LoRA but alpha, rslora and init; `start_d` is what d starts at.

    All layers of an adapter have the same rank, and it is for matrix products as a whole.
    """

    start_d: float = 0.1

    name: ClassVar[str] = "vera"

    def __post_init__(self) -> None:
        super().__post_init__()
        scaled = not isinstance(self.alpha, Mapping) and self.alpha != LoRA.alpha
        if scaled or self.rslora or self.init != DEFAULT:
            raise PlanError("VeRA has no scale and one way to start: leave alpha, rslora and init.")
        check_number(self.start_d, "start_d")

    def scale(self, alpha: float, rank: int) -> float:
        """One: the vectors are all the scale there is."""
        del alpha, rank
        return 1.0

    def updates(self, root: nn.Module, plan: Mapping[str, int]) -> dict[str, dict[str, Update]]:
        """Fresh updates for a plan of one rank; nothing is put on the model."""
        asked = {target: check_rank(rank, repr(target)) for target, rank in plan.items()}
        layers = find_layers(root, dict.fromkeys(split_target(target)[0] for target in asked))
        whole = {target for target in asked if is_norm(layers[split_target(target)[0]])}
        ranks = sorted({rank for target, rank in asked.items() if rank and target not in whole})
        if len(ranks) > 1:
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

    def restored(self, root: nn.Module, state: AdapterState) -> dict[str, dict[str, Update]]:
        """The updates of a state that was read from a file, still around one A and one B."""
        seen: dict[tuple, Tensor] = {}
        lows = {
            target: replace(low, **{name: self._moved(root, target, getattr(low, name), seen)
                                    for name in ("A", "B")})
            for target, low in state.low_rank.items()
        }  # fmt: skip
        return super().restored(root, replace(state, low_rank=lows))

    def _moved(
        self, root: nn.Module, target: str, factor: Tensor, seen: dict[tuple, Tensor]
    ) -> Tensor:
        """A factor where its layer is, in the same memory as the others that it shared it with."""
        device = Form.of(root, target).device
        key = (factor.untyped_storage().data_ptr(), device)
        if key not in seen:
            whole = torch.empty(0, dtype=factor.dtype).set_(factor.untyped_storage())
            seen[key] = whole.to(device, self.dtype, copy=True)
        return seen[key].as_strided(factor.shape, factor.stride(), factor.storage_offset())

    def _kept(self, form: Form, start: Factors) -> Factors:
        """Not copied: all layers share the memory of one A and one B."""
        return start

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
        wide = torch.promote_types(self.d.dtype, torch.float32)  # rounded once, where it is used
        d, b = self.d.to(wide), self.b.to(wide)
        return d[:, None] * self.A.to(wide), b[:, None] * self.B.to(wide)
