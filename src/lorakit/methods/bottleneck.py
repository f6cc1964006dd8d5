"""Bottleneck adapters: two small layers with a nonlinearity between them, put into each block.

`Houlsby` has one after the attention and one after the feed-forward part, before the residual sum,
and trains the norms (Houlsby et al. 2019, figure 2); `Pfeiffer` has the second alone, with ReLU
(Pfeiffer et al. 2021, section 3.1). They are no change of a weight, so that they cannot be merged
and cost time at each call (Hu et al. 2021, table 1).

Two things are otherwise than in the papers' own code: up matrices start at zero instead of near it,
so that a fresh adapter changes no bit, and Pfeiffer's, too, stands before the residual sum, where
the original reads the sum behind its norm.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lorakit.core.errors import PlanError, UnsupportedError
from lorakit.core.plan import split_target
from lorakit.core.site import module_at
from lorakit.core.update import Call
from lorakit.layers import MATRICES
from lorakit.layers.form import Form
from lorakit.layers.norm import is_norm
from lorakit.methods.method import Baseline, Unmergeable, Updates
from lorakit.methods.whole import in_full

ACTIVATIONS = {"gelu": F.gelu, "relu": F.relu, "silu": F.silu, "tanh": torch.tanh}


class Bottleneck(Unmergeable):
    """f(x) = s act(x D^T + d) U^T + u for D (size, width) and U (out, size), U and biases zero.

    `act` adds f of the layer's output to it.
    """

    def __init__(
        self, width: int, size: int, out: int, *, activation: str, scale: float, like: Tensor
    ):  # fmt: skip
        super().__init__()
        place: dict[str, Any] = {"device": like.device, "dtype": like.dtype}
        self.activation, self.scale = activation, scale
        down, up = torch.empty(size, width, **place), torch.zeros(out, size, **place)
        nn.init.kaiming_uniform_(down, a=math.sqrt(5))
        self.down, self.up = nn.Parameter(down), nn.Parameter(up)
        self.down_bias = nn.Parameter(torch.zeros(size, **place))
        self.up_bias = nn.Parameter(torch.zeros(out, **place))

    def product(self, x: Tensor) -> Tensor:
        """F(x), in the dtype of x."""
        down, down_bias, up, up_bias = (
            p.to(x.dtype) for p in (self.down, self.down_bias, self.up, self.up_bias)
        )
        inner = ACTIVATIONS[self.activation](F.linear(x, down, down_bias))
        return F.linear(inner, up, up_bias) * self.scale

    def act(self, layer: nn.Module, call: Call, output: Tensor, rows: Tensor | None) -> Tensor:
        x = output if rows is None else output.index_select(0, rows)
        delta = self.product(x)
        return output + delta if rows is None else output.index_add(0, rows, delta)

    def extra_repr(self) -> str:
        size, width = self.down.shape
        return f"in={width}, size={size}, out={len(self.up)}, activation={self.activation}"


@dataclass(frozen=True)
class Houlsby(Baseline):
    """The options of Houlsby's adapters: `activation` is "gelu", "relu", "silu" or "tanh"."""

    activation: str = "gelu"

    name: ClassVar[str] = "houlsby"
    targets: ClassVar[tuple[str, ...]] = ("o", "down", "norms")
    size: ClassVar[str] = "width"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.activation not in ACTIVATIONS:
            raise PlanError(
                f"activation is {self.activation!r}; expected {', '.join(ACTIVATIONS)}."
            )

    def options(self) -> dict[str, Any]:
        """The activation."""
        return {"activation": self.activation}

    def make(self, root: nn.Module, sizes: Mapping[str, int]) -> Updates:
        """A bottleneck behind each layer of the plan; its norms in full."""
        norms = [target for target in sizes if is_norm(module_at(root, split_target(target)[0]))]
        found = in_full(root, norms, self.dtype)
        for target in sizes:
            if target not in norms:
                form = matrix_of(root, target, self.name)
                like = torch.empty(0, device=form.device, dtype=self.dtype)
                found[target] = {
                    "bottleneck": Bottleneck(
                        form.width, sizes[target], form.width, activation=self.activation,
                        scale=1.0, like=like,
                    )
                }  # fmt: skip
        return found

    def size_of(self, values: Mapping[str, Tensor]) -> int:
        """The width of the bottleneck."""
        return len(values["down"]) if "down" in values else 1


@dataclass(frozen=True)
class Pfeiffer(Houlsby):
    """The options of Pfeiffer's adapters."""

    activation: str = "relu"

    name: ClassVar[str] = "pfeiffer"
    targets: ClassVar[tuple[str, ...]] = ("down",)


def matrix_of(root: nn.Module, target: str, method: str) -> Form:
    """The form of a target that is a matrix product as a whole, or `UnsupportedError`."""
    form = Form.of(root, target)
    if form.part or (form.geometry.name not in MATRICES and not form.geometry.quantised):
        raise UnsupportedError(
            f"{target!r}: {method} is for matrix products as a whole, not for a part of one or a "
            f"layer of the type {form.geometry.name}. Leave it out of the plan."
        )
    return form
