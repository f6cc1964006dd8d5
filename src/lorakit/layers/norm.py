"""LayerNorm, GroupNorm and RMSNorm: a trained scale and shift.

A norm is linear in its scale g and shift b, so a change of them is a second norm of the same input:
norm(x; g + dg, b + db) = norm(x; g, b) + norm(x; dg, db). For a vector a factorisation of rank one
is complete already, so there are no factors: the vectors themselves are trained.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lorakit.core.sums import Sums
from lorakit.core.update import Call, Parameters, Update, first_input
from lorakit.core.whole import with_values

_PLAIN = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def is_norm(layer: nn.Module) -> bool:
    """Whether the layer is a norm of a known type that has a scale."""
    if not isinstance(layer._parameters.get("weight"), nn.Parameter):
        return False
    if type(layer) in _PLAIN:
        return True
    return _is_rms(type(layer)) and layer._parameters.keys() == {"weight"} and _is_linear(layer)


@lru_cache(maxsize=256)
def _is_rms(kind: type) -> bool:
    """Whether this is one of transformers' RMSNorms: x / sqrt(mean(x^2) + eps) times a scale."""
    return (
        kind.__module__.startswith("transformers.models.")
        and kind.__name__.endswith(("RMSNorm", "T5LayerNorm"))
        and len(inspect.signature(kind.forward).parameters) == 2  # self and x: no gate
    )


_LINEAR: dict[type, bool] = {}


def _is_linear(layer: nn.Module) -> bool:
    """Whether the norm is linear in its scale, tried once for each class on numbers of its own."""
    kind = type(layer)
    if kind not in _LINEAR:
        width = layer._parameters["weight"].shape  # type: ignore[union-attr]
        numbers = torch.Generator().manual_seed(0)
        x, one, two = (torch.randn(*width, generator=numbers) for _ in range(3))
        try:
            with torch.no_grad():
                made = [with_values(layer, {"weight": w}).forward(x) for w in (one, two)]
                change = _normalise(layer, x, {"weight": one - two})
            _LINEAR[kind] = torch.allclose(made[0] - made[1], change, rtol=1e-3, atol=1e-4)
        except (RuntimeError, TypeError, AttributeError, ValueError):
            _LINEAR[kind] = False  # it wants more than an input: no norm that is known here
    return _LINEAR[kind]


class NormShift(Update):
    """Scale and, where the norm has one, shift: `weight` and `bias` stand for the layer's own."""

    def __init__(self, layer: nn.Module, values: Mapping[str, Tensor], dtype: torch.dtype):
        super().__init__()
        self.names = [name for name in ("weight", "bias") if name in values]
        for name in self.names:
            device = layer._parameters["weight"].device  # type: ignore[union-attr]
            value = values[name].detach().to(device, dtype, copy=True)
            self.register_parameter(name, nn.Parameter(value))

    def act(self, layer: nn.Module, call: Call, output: Tensor, rows: Tensor | None) -> Tensor:
        x = first_input(call)
        if rows is not None:
            x = x.index_select(0, rows)
        change = {name: getattr(self, name) - own for name, own in self._own(layer).items()}
        delta = _normalise(layer, x, change).to(output.dtype)
        return output + delta if rows is None else output.index_add(0, rows, delta)

    def merge_into(self, layer: nn.Module, sums: Sums) -> None:
        for name, own in self._own(layer).items():
            wide = own.to(sums.place(name)[0])
            sums.add(name, getattr(self, name).detach().to(wide) - wide)

    def whole(self) -> Parameters:
        return {name: getattr(self, name) for name in self.names}

    def _own(self, layer: nn.Module) -> Parameters:
        return {name: layer._parameters[name].detach() for name in self.names}  # type: ignore[union-attr]


def _normalise(layer: nn.Module, x: Tensor, change: Parameters) -> Tensor:
    """The norm of x with other values for its scale and shift."""
    weight, bias = change["weight"], change.get("bias")
    if _is_rms(type(layer)):
        eps: Any = getattr(layer, "variance_epsilon", None) or layer.eps
        wide = x.float()
        return weight * (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps))
    weight, bias = weight.to(x.dtype), None if bias is None else bias.to(x.dtype)
    if isinstance(layer, nn.LayerNorm):
        return F.layer_norm(x, layer.normalized_shape, weight, bias, layer.eps)
    if isinstance(layer, nn.GroupNorm):
        return F.group_norm(x, layer.num_groups, weight, bias, layer.eps)
    assert isinstance(layer, nn.RMSNorm)
    return F.rms_norm(x, layer.normalized_shape, weight, layer.eps)
