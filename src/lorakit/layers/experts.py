"""Fused experts: the weights of a mixture's experts as one parameter (experts, out, in).

transformers 5 keeps them so, and its modules read them without calling a layer, so that nothing can
be added to an output. An update of them is a low-rank change for each expert, and the module runs
with the changed weights in the place of its own. A target is `path:parameter`.
"""

from __future__ import annotations

import inspect
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from lorakit.core.errors import PlanError, UnsupportedError, shortlist
from lorakit.core.sums import Sums
from lorakit.core.update import Call, LowRank, Parameters, Update
from lorakit.core.whole import with_values


def expert_parameters(layer: nn.Module) -> list[str]:
    """The parameters of fused experts in a module of transformers; empty for any other."""
    kind = type(layer)
    if not kind.__module__.startswith("transformers.models.") or "Experts" not in kind.__name__:
        return []
    return [n for n, p in layer._parameters.items() if p is not None and p.dim() == 3]


class ExpertsGeometry:
    """A (experts, rank, in), B (experts, out, rank), for one parameter of a module."""

    name = "experts"
    zero = "B"
    quantised = False
    stacks = False

    def __init__(self, parameter: str):
        self.parameter = parameter

    @classmethod
    def of(cls, layer: nn.Module, target: str, parameter: str) -> ExpertsGeometry:
        """The geometry of a target, or `PlanError` where it names no parameter of experts."""
        known = expert_parameters(layer)
        if parameter not in known:
            path = target.partition(":")[0]
            raise PlanError(
                f"{target!r} means fused experts, whose parameters are adapted each: name "
                f"{shortlist(f'{path}:{name}' for name in known)}."
            )
        return cls(parameter)

    def accepts(self, layer: nn.Module) -> bool:
        """Whether the module has this parameter of experts."""
        return self.parameter in expert_parameters(layer)

    def size(self, layer: nn.Module) -> tuple[int, int]:
        """(in, out) of each expert."""
        _, out, columns = self.matrix(layer).shape
        return columns, out

    def start(self, A: Tensor, B: Tensor) -> None:
        """Each expert as a linear layer starts."""
        bound = A.shape[-1] ** -0.5
        nn.init.uniform_(A, -bound, bound)
        nn.init.zeros_(B)

    def product(self, layer: nn.Module, x: Tensor, A: Tensor, B: Tensor, scale: float) -> Tensor:
        """Not to be had: which token goes to which expert is known inside the module alone."""
        raise UnsupportedError("The update of fused experts has no product of its own.")

    def add(self, layer: nn.Module, x: Tensor, y: Tensor, update: LowRank) -> Tensor | None:
        """Not in place: `product` makes it."""
        del layer, x, y, update

    def kernel(self, layer: nn.Module) -> tuple[int, ...]:
        """None."""
        return ()

    def matrix(self, layer: nn.Module) -> Tensor:
        """The parameter as (experts, out, in)."""
        value = layer._parameters[self.parameter]
        assert value is not None
        return value.mT if _is_transposed(layer) else value

    def layout(self, layer: nn.Module, matrix: Tensor) -> Tensor:
        """(experts, out, in) as the parameter has it."""
        return matrix.mT if _is_transposed(layer) else matrix

    def per_output(self, layer: nn.Module, values: Tensor) -> Tensor:
        """As they are."""
        return values


class Experts(Update):
    """All that one adapter changes in one module of experts: an update for each parameter."""

    replaces = True  # it answers for the module, so that two cannot add up

    def __init__(self) -> None:
        super().__init__()
        self.of = nn.ModuleDict()

    def add(self, parameter: str, update: LowRank) -> None:
        """Let the update change this parameter."""
        if update.dropout:
            raise UnsupportedError(
                "Fused experts have no input of their own that could be dropped. Set dropout to 0, "
                "or leave them out of the plan."
            )
        self.of[parameter] = update

    def parts(self) -> list[Update]:
        """The updates of the parameters, by which files know them."""
        return [part for part in self.of.values() if isinstance(part, Update)]

    def act(self, layer: nn.Module, call: Call, output: Any, rows: Tensor | None) -> Any:
        """The module's answer with the changed weights."""
        if torch.compiler.is_compiling():
            raise UnsupportedError(
                "Adapters of fused experts cannot be compiled. Merge them first, or run without "
                "torch.compile."
            )
        changed: Parameters = {}
        for name, part in self.of.items():
            assert isinstance(part, LowRank)
            own = layer._parameters[name]
            assert own is not None
            A, B = (factor.to(own.dtype) for factor in part.factors())
            changed[name] = own + part.geometry.layout(layer, B @ A) * part.scale
        if rows is not None and not _keeps_order(type(layer)):
            raise UnsupportedError(
                f"{type(layer).__name__} gets tokens sorted by expert, so rows of a mixed batch "
                "cannot be told apart in it. Call the model once for each adapter."
            )
        # The class's own forward: hooks have run, and the shell is no place to run them again.
        mine = type(layer).forward(with_values(layer, changed), *call.args, **call.kwargs)
        return mine if rows is None else output.index_copy(0, rows, mine.index_select(0, rows))

    def merge_into(self, layer: nn.Module, sums: Sums) -> None:
        """Add each change to its parameter."""
        for name, part in self.of.items():
            assert isinstance(part, LowRank)
            sums.add(name, part.geometry.layout(layer, part.delta(*sums.place(name))))


@lru_cache(maxsize=64)
def _keeps_order(kind: type) -> bool:
    """Whether the module gets tokens as the batch has them, and beside them their experts."""
    return any("ind" in name for name in inspect.signature(kind.forward).parameters)


def _is_transposed(layer: nn.Module) -> bool:
    """Whether the parameters are kept as (experts, in, out), which transformers' modules say."""
    return bool(getattr(layer, "is_transposed", False))
