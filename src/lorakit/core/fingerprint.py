"""Fingerprints of base models: the shapes and some values of a few of their tensors.

Values are kept as numbers and not as a hash, so that a base is known again after it was cast to
another dtype: they are compared within the rounding of the coarser one.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn

from lorakit.core.registry import registry_of, root_of
from lorakit.core.sharded import gathered
from lorakit.core.site import base_parameters, own_parameters

TENSORS = 24
VALUES = 8


def fingerprint(model: nn.Module, *, without: Collection[str] = ()) -> dict[str, Any]:
    """Shapes and sampled values of the model's own tensors, as JSON.

    Tensors under the module paths in `without` are left out: the adapter brings its own. While
    adapters are merged the pretrained values are the ones that are sampled.
    """
    root = root_of(model)
    prefixes = tuple(f"{path}." for path in without)
    named = {
        name: value
        for name, value in _pristine(root).items()
        if _plain(value) and value.numel() and not name.startswith(prefixes)
    }
    names = sorted(named)
    chosen = [names[i] for i in _spread(len(names), TENSORS)]
    return {
        "parameters": sum(value.numel() for value in named.values()),
        "tensors": {name: _sample(named[name]) for name in chosen if not named[name].is_meta},
    }


def difference(model: nn.Module, recorded: dict[str, Any]) -> str | None:
    """What tells the model from the one that the fingerprint was taken of, or None."""
    named = _pristine(root_of(model))
    for name, sample in recorded["tensors"].items():
        value = named.get(name)
        if value is None:
            return f"it has no tensor {name!r}"
        if not _plain(value):  # quantised: neither its shape nor its values are the base's
            continue
        if list(value.shape) != sample["shape"]:
            return f"{name!r} has shape {list(value.shape)} instead of {sample['shape']}"
        # A tensor that is not loaded yet has no values to compare.
        if not value.is_meta and not _close(value, sample):
            return f"{name!r} holds other values"
    return None


def conflict(one: dict[str, Any], two: dict[str, Any]) -> str | None:
    """A tensor that two fingerprints both have and that differs, or None."""
    for name in one["tensors"].keys() & two["tensors"].keys():
        mine, other = one["tensors"][name], two["tensors"][name]
        dtype = getattr(torch, mine["dtype"])
        values = torch.tensor(mine["values"], dtype=torch.float64)
        if mine["shape"] != other["shape"] or not _near(values, dtype, other):
            return name
    return None


def _pristine(root: nn.Module) -> dict[str, Tensor]:
    """The base's tensors, tied ones once, with the pretrained values where some are merged."""
    named: dict[str, Tensor] = dict(base_parameters(root))
    registry = registry_of(root)
    if registry is None or registry.merged is None:
        return named
    own: dict[str, Tensor] = {}
    for swap in registry.merged.swaps:
        values = {swap.name: swap.pristine} if swap.name else own_parameters(swap.pristine)
        own.update({f"{swap.path}.{name}": value for name, value in values.items()})
    named.update({name: value for name, value in own.items() if name in named})
    # A merge unties: the pretrained tensor may stand under its second name by now as well.
    first: dict[int, str] = {}
    return {n: value for n, value in named.items() if first.setdefault(id(value), n) == n}


def _plain(value: Tensor) -> bool:
    """Whether the tensor has the base's own numbers, and not codes of a quantised weight."""
    return value.is_floating_point() and type(value).__module__.startswith("torch.")


def _sample(value: Tensor) -> dict[str, Any]:
    return {
        "shape": list(value.shape),
        "dtype": str(value.dtype).removeprefix("torch."),
        "values": _values(value).tolist(),
    }


def _values(value: Tensor) -> Tensor:
    places = _spread(value.numel(), VALUES)
    return gathered(value.detach()).reshape(-1)[places].to("cpu", torch.float64)


def _close(value: Tensor, sample: dict[str, Any]) -> bool:
    return _near(_values(value), value.dtype, sample)


def _near(values: Tensor, dtype: torch.dtype, sample: dict[str, Any]) -> bool:
    recorded = torch.tensor(sample["values"], dtype=torch.float64)
    coarser = max(_rounding(dtype), _rounding(getattr(torch, sample["dtype"])))
    # float16 has no exponents below 2^-24, so small values need an absolute tolerance as well.
    return torch.allclose(values, recorded, rtol=2 * coarser, atol=coarser * 1e-3)


def _rounding(dtype: torch.dtype) -> float:
    return torch.finfo(dtype).eps


def _spread(count: int, wanted: int) -> list[int]:
    """At most `wanted` indices below `count`, evenly spaced, the first and the last among them."""
    if count <= wanted:
        return list(range(count))
    return [i * (count - 1) // (wanted - 1) for i in range(wanted)]
