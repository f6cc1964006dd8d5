"""DoRA: direction and magnitude of the weight apart (Liu et al. 2024, equation 5).

W' = m * (W + s B A) / |W + s B A|, where |.| is the norm of each output's weights and m, one number
for each output, starts at |W|. The norm is a constant in the backward pass (section 4.3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lorakit.core.errors import UnsupportedError
from lorakit.core.free import wide
from lorakit.core.state import LowRankState
from lorakit.core.sums import Sums
from lorakit.core.update import Call, LowRank, first_input
from lorakit.layers.form import Form
from lorakit.methods.lora import LoRA
from lorakit.methods.start import Factors

_TINY = 1e-30  # instead of a division by zero for outputs whose weights are all zero


@dataclass(frozen=True)
class DoRA(LoRA):
    """The options of DoRA: those of LoRA, for whole layers."""

    name: ClassVar[str] = "dora"

    def _low_rank(self, form: Form, factors: Factors, alpha: float) -> LowRank:
        if form.part:
            raise UnsupportedError(
                f"{form.path}:{form.part}: DoRA has a magnitude for every output of a layer, so it "
                f"does not adapt a part of one. Name {form.path!r} as a whole, or use LoRA."
            )
        given = self._given(form, factors, alpha)
        return Directed(form.layer, form.geometry, factors.A, factors.B, **given)

    def _known(self, form: Form, low: LowRankState) -> LowRank:
        update = super()._known(form, low)
        assert isinstance(update, Directed)
        assert low.magnitude is not None
        update.magnitude.data = low.magnitude.to(update.magnitude, copy=True)
        return update


class Directed(LowRank):
    """A low-rank update of the direction, and `magnitude` (out,)."""

    reads_output = True

    def __init__(self, layer: nn.Module, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.magnitude = nn.Parameter(self.norm(layer))  # never narrower than float32

    def act(self, layer: nn.Module, call: Call, output: Tensor, rows: Tensor | None) -> Tensor:
        x, base = first_input(call), call.output
        if rows is not None:
            x, base = x.index_select(0, rows), base.index_select(0, rows)
        dropped = self.drop(x)
        if dropped is not x:
            base = type(layer).forward(layer, dropped)  # the layer alone: its hooks do not run
        base = base.to(wide(base.dtype)) if self.in_float32 else base
        bias = getattr(layer, "bias", None)
        if bias is not None:
            base = base - self.geometry.per_output(layer, bias.detach())
        ratio = self.magnitude / self.norm(layer)
        share = self.geometry.per_output(layer, ratio)
        delta = (share - 1).to(base.dtype) * base
        delta = delta + share.to(base.dtype) * self.product(layer, dropped).to(base.dtype)
        delta = delta.to(output.dtype)
        return output + delta if rows is None else output.index_add(0, rows, delta)

    @torch.no_grad()
    def norm(self, layer: nn.Module) -> Tensor:
        """|W + s B A| for each output, (out,), without forming B A.

        |w + s b A|^2 = |w|^2 + 2 s b (A w) + s^2 b (A A^T) b, for a row w of W and b of B.
        """
        W = self.geometry.matrix(layer)
        dtype = torch.promote_types(W.dtype, torch.float32)
        W, A, B = W.to(dtype), self.A.to(dtype), self.B.to(dtype)
        if self.anchor is not None:
            A0, B0 = self.anchor
            A, B = torch.cat([A, A0.to(dtype)]), torch.cat([B, -B0.to(dtype)], 1)
        kind = "cpu" if W.is_meta else W.device.type  # where only shapes are, nothing is cast
        with torch.autocast(kind, enabled=False):
            both = (W @ A.T * B).sum(1)
            own = (B @ (A @ A.T) * B).sum(1)
        square = W.square().sum(1) + 2 * self.scale * both + self.scale**2 * own
        return square.clamp_min(0).sqrt().clamp_min(_TINY)

    def merge_into(self, layer: nn.Module, sums: Sums) -> None:
        weight = sums["weight"]
        W = self.geometry.matrix(layer).detach().to(weight.dtype)
        moved = W + self.delta(weight.dtype, weight.device)
        share = self.magnitude.detach().to(weight) / moved.norm(dim=1).clamp_min(_TINY)
        sums.add("weight", self.geometry.layout(layer, moved * share[:, None] - W))
