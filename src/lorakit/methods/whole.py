"""Parameters of the base that an adapter trains as they are: modules in full, norms, and biases."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lorakit.core.errors import PlanError, UnsupportedError, did_you_mean
from lorakit.core.patterns import matches
from lorakit.core.site import bare_copy, own_modules, own_parameters
from lorakit.core.state import AdapterState
from lorakit.core.update import Update
from lorakit.core.whole import BiasShift, Replacement
from lorakit.layers import is_quantised
from lorakit.layers.norm import NormShift, is_norm

# Layers whose bias is added last and along the last dimension, so that its change can be, too.
_BIASED = ("torch.nn.modules.linear.Linear", "transformers.pytorch_utils.Conv1D",
          "torch.nn.modules.normalization.LayerNorm", "bitsandbytes.nn.modules.Linear4bit",
          "bitsandbytes.nn.modules.Linear8bitLt")  # fmt: skip
_CALLS_INNER = (nn.Sequential.forward, nn.Module.forward)


def in_full(
    root: nn.Module, paths: Iterable[str], dtype: torch.dtype
) -> dict[str, dict[str, Update]]:
    """Updates that train the modules in full: as a change where it can be one, else as a copy.

    What modules share, such as a tied weight, their copies share as well.
    """
    memo: dict[int, Any] = {}
    return {path: _whole(root.get_submodule(path), path, dtype, memo) for path in paths}


def known_in_full(
    root: nn.Module, state: AdapterState, dtype: torch.dtype
) -> dict[str, dict[str, Update]]:
    """The updates of modules that a state holds in full, with its values."""
    updates = in_full(root, state.extras, dtype)
    for path, kinds in updates.items():
        for update in kinds.values():
            for name, parameter in update.whole().items():
                parameter.data = state.extras[path][name].to(parameter)
    return updates


def add_known_biases(
    updates: dict[str, dict[str, Update]], root: nn.Module, state: AdapterState, dtype: torch.dtype
) -> None:
    """Add the updates of biases that a state holds, which act last, as they did when trained."""
    for path, value in state.biases.items():
        own = bias_of(root.get_submodule(path))
        shift = BiasShift(value.to(own.device, dtype, copy=True))
        updates.setdefault(path, {})["bias"] = shift


def shifted_bias(root: nn.Module, path: str, dtype: torch.dtype) -> BiasShift:
    """An update that trains the bias of the layer at a path."""
    return BiasShift(bias_of(root.get_submodule(path)).to(dtype, copy=True))


def _whole(
    module: nn.Module, path: str, dtype: torch.dtype, memo: dict[int, Any]
) -> dict[str, Update]:
    inside = next((m for m in module.modules() if is_quantised(m)), None)
    if inside is not None:
        raise UnsupportedError(
            f"{path!r} is quantised ({type(inside).__name__}), so it cannot be trained in "
            "full. Give it a rank instead, or leave it out of what is quantised."
        )
    if is_norm(module):
        return {"norm": NormShift(module, own_parameters(module), dtype)}
    dtypes = {name: value.dtype for name, value in own_parameters(module).items()}
    return {"replacement": Replacement(bare_copy(module, memo), dtype, dtypes)}


def adds_bias_last(module: nn.Module) -> bool:
    """Whether the module is of a type that is known to add its bias last."""
    return f"{type(module).__module__}.{type(module).__qualname__}" in _BIASED


def has_biased(module: nn.Module) -> bool:
    """Whether the module has a bias that can be trained alone."""
    return adds_bias_last(module) and isinstance(module._parameters.get("bias"), nn.Parameter)


def check_biased(module: nn.Module, path: str) -> None:
    """Raise `UnsupportedError` unless the module's bias is added last, along the last dimension."""
    if not adds_bias_last(module):
        kind = f"{type(module).__module__}.{type(module).__qualname__}"
        raise UnsupportedError(
            f"{path!r} is a {kind}, and lorakit does not know that its bias is added last. Use "
            "bias='lora_only' or bias='none'."
        )


def find_extras(root: nn.Module, patterns: tuple[str, ...]) -> list[str]:
    """The modules that the patterns mean, outermost first, or `PlanError` for one without any.

    In place of containers it gives what is in them (`unfolded`).
    """
    modules = own_modules(root)
    found: list[str] = []
    for pattern in patterns:
        hits = [path for path in modules if matches(pattern, path)]
        if not hits:
            raise PlanError(
                f"extras: no module is meant by {pattern!r}.{did_you_mean(pattern, modules)}"
            )
        found += [path for path in hits if path not in found]
    empty = next((path for path in found if not list(modules[path].parameters())), None)
    if empty is not None:
        raise PlanError(f"extras: {empty!r} has no parameters to train. Name another module.")
    outer = [path for path in found if not any(path.startswith(f"{other}.") for other in found)]
    return [own for path in outer for own in unfolded(modules, path)]


def unfolded(modules: Mapping[str, nn.Module], path: str) -> list[str]:
    """The path; of a container that only calls what is in it, the paths in it with parameters.

    A `Sequential` calls all that hangs in it, also what an adapter hangs there, and a `ModuleList`
    is called by no one.
    """
    module = modules[path]
    if (
        type(module).forward not in _CALLS_INNER
        or next(module.parameters(recurse=False), None) is not None
    ):
        return [path]
    inner = [own for own in modules if own and own.rpartition(".")[0] == path]
    full = [own for own in inner if next(modules[own].parameters(), None) is not None]
    return [deep for own in full for deep in unfolded(modules, own)]


def bias_of(layer: nn.Module) -> Tensor:
    """The layer's bias, detached."""
    assert isinstance(layer.bias, Tensor)
    return layer.bias.detach()
