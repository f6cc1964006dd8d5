"""Updates that hold whole parameters of a layer: its bias, or all that it has."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lorakit.core.errors import UnsupportedError
from lorakit.core.sums import Sums
from lorakit.core.update import Call, Parameters, Update


class BiasShift(Update):
    """A trained bias: `bias` (out,) stands in the place of the layer's own.

    A bias is the last thing a layer adds, so its change can be added to the output.
    """

    def __init__(self, bias: Tensor):
        super().__init__()
        self.bias = nn.Parameter(bias)

    def act(self, layer: nn.Module, call: Call, output: Tensor, rows: Tensor | None) -> Tensor:
        assert isinstance(layer.bias, Tensor)
        delta = (self.bias - layer.bias.detach()).to(output.dtype)
        if rows is None:
            return output + delta
        return output.index_add(0, rows, delta.expand(len(rows), *output.shape[1:]))

    def merge_into(self, layer: nn.Module, sums: Sums) -> None:
        assert isinstance(layer.bias, Tensor)
        own = layer.bias.detach().to(sums.place("bias")[0])
        sums.add("bias", self.bias.detach().to(own) - own)


class Replacement(Update):
    """A fully trained copy of a module, such as a new head, that answers in the module's place."""

    replaces = True

    def __init__(
        self, copied: nn.Module, dtype: torch.dtype, dtypes: Mapping[str, torch.dtype]
    ):  # fmt: skip
        super().__init__()
        self.module = copied
        self.dtypes = dict(dtypes)  # of the module's own parameters, in which the copy acts
        for parameter in self.module.parameters():
            parameter.requires_grad_(True)
            if parameter.is_floating_point():
                parameter.data = parameter.data.to(dtype)

    def act(self, layer: nn.Module, call: Call, output: Any, rows: Tensor | None) -> Any:
        args, kwargs, _ = call
        named = self.whole()
        cast = {name: value.to(self.dtypes[name]) for name, value in named.items()}
        if all(cast[name] is value for name, value in named.items()):
            mine = self.module(*args, **kwargs)
        elif torch.compiler.is_compiling():  # one thread traces, and a shell it cannot trace
            mine = torch.func.functional_call(self.module, cast, args, kwargs)
        else:
            mine = with_values(self.module, cast)(*args, **kwargs)
        if rows is None:
            return mine
        if not isinstance(mine, Tensor):
            raise UnsupportedError(
                f"{type(layer).__name__} returns {type(mine).__name__}, so rows of a mixed batch "
                "cannot be told apart in it. Call the model once for each adapter."
            )
        return output.index_copy(0, rows, mine.index_select(0, rows))

    def merge_into(self, layer: nn.Module, sums: Sums) -> None:
        for name, value in self.whole().items():
            sums[name] = value.detach().to(sums.place(name)[0])

    def whole(self) -> Parameters:
        return dict(self.module.named_parameters(remove_duplicate=False))


def with_values(module: nn.Module, values: Parameters, prefix: str = "") -> nn.Module:
    """A shell of the module in which other tensors stand for its parameters.

    `torch.func.functional_call` would swap them in the module itself for the length of the call,
    and two threads that do so at once leave it with the wrong ones.
    """
    shell = copy.copy(module)
    own = {name: values.get(prefix + name, value) for name, value in module._parameters.items()}
    inner = {
        name: child if child is None else with_values(child, values, f"{prefix}{name}.")
        for name, child in module._modules.items()
    }
    shell.__dict__.update(_parameters=own, _modules=inner)
    shell.__dict__.pop("forward", None)  # it would be that of the module itself
    return shell
