"""(IA)^3: keys, values and the inner activations of feed-forward parts, scaled one by one.

l_k * (K x), l_v * (V x), and W2 (l_ff * a), with the vectors l starting at one (Liu et al. 2022,
section 3.3). Each is a change of one weight matrix: of its rows, or for l_ff of its columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from lorakit.core.errors import UnsupportedError
from lorakit.core.sums import Sums
from lorakit.core.update import Call, Inputs, Quantised, Update
from lorakit.layers import MATRICES
from lorakit.layers.form import Form
from lorakit.layers.role import role_of
from lorakit.methods.full import Full
from lorakit.methods.method import Updates


class Rescale(Update):
    """A factor for each input of a layer (`inner`), or for each output, or those of a part."""

    own = False
    reads_output = True
    outputs: Tensor | None

    def __init__(self, form: Form, dtype: torch.dtype, *, inner: bool):
        super().__init__()
        columns, rows = form.size
        self.geometry, self.part, self.inner, self.width = (
            form.geometry,
            form.part,
            inner,
            form.width,
        )
        outputs = None if form.outputs is None else form.outputs.to(form.device)
        self.register_buffer("outputs", outputs, persistent=False)
        count = columns if inner else rows
        self.scale = nn.Parameter(torch.ones(count, device=form.device, dtype=dtype))

    @property
    def prepares(self) -> bool:  # type: ignore[override]
        """Whether it scales what the layer gets."""
        return self.inner

    def prepare(self, layer: nn.Module, args: tuple, kwargs: dict, rows: Tensor | None) -> Inputs:
        name = next(iter(kwargs)) if not args else ""
        x = kwargs[name] if name else args[0]
        scaled = _scaled(x, self.scale, rows)
        return (args, {**kwargs, name: scaled}) if name else ((scaled, *args[1:]), kwargs)

    def act(self, layer: nn.Module, call: Call, output: Tensor, rows: Tensor | None) -> Tensor:
        if self.inner:
            return output
        if rows is None and output is not call.output:
            # Beside others it changes what the layer gives, and not what they add: as merged.
            return output + call.output * (self.factors().to(output.dtype) - 1)
        return _scaled(output, self.factors(), rows)

    def factors(self) -> Tensor:
        """A factor for every output of the layer: one for those of other parts."""
        if self.outputs is None:
            return self.scale
        return self.scale.new_ones(self.width).index_copy(0, self.outputs, self.scale)

    def merge_into(self, layer: nn.Module, sums: Sums) -> None:
        dtype, device = sums.place("weight")
        change = (self.scale if self.inner else self.factors()).detach().to(device, dtype) - 1
        matrix = self.geometry.matrix(layer).detach().to(device, dtype)
        moved = matrix * change if self.inner else matrix * change[:, None]
        sums.add("weight", self.geometry.layout(layer, moved).contiguous())
        if not self.inner and isinstance(layer._parameters.get("bias"), Tensor):
            sums.add("bias", sums["bias"] * change.to(sums.place("bias")[0]))

    def packed(self, layer: nn.Module) -> Quantised | None:
        return cast(Quantised, self.geometry) if self.geometry.quantised else None

    def target(self, path: str) -> str:
        return f"{path}:{self.part}" if self.part else path

    def extra_repr(self) -> str:
        return f"{'inputs' if self.inner else 'outputs'}={len(self.scale)}"


@dataclass(frozen=True)
class IA3(Full):
    """The options of (IA)^3. The last layers of feed-forward parts are scaled at their input."""

    name: ClassVar[str] = "ia3"
    targets: ClassVar[tuple[str, ...]] = ("k", "v", "down")

    def make(self, root: nn.Module, sizes: Mapping[str, int]) -> Updates:
        """Factors of one for each target, a matrix product or a part of one."""
        found: Updates = {}
        for target in sizes:
            form = Form.of(root, target)
            if (form.geometry.name not in MATRICES and not form.geometry.quantised) or form.lead:
                raise UnsupportedError(
                    f"{target!r}: {self.name} is for matrix products, not for a layer of the type "
                    f"{form.geometry.name}. Leave it out of the plan."
                )
            inner = not form.part and role_of(form.path, form.layer) == "down"
            kind = f"rescale:{form.part}" if form.part else "rescale"
            found.setdefault(form.path, {})[kind] = Rescale(form, self.dtype, inner=inner)
        return found


def _scaled(x: Tensor, factors: Tensor, rows: Tensor | None) -> Tensor:
    factors = factors.to(x.dtype)
    if rows is None:
        return x * factors
    return x.index_copy(0, rows, x.index_select(0, rows) * factors)
