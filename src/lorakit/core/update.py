"""Updates: what one adapter changes at one layer, as modules that own the trained parameters.

Each kind knows two things: what it does to the layer's output, and what it makes of the layer's
own parameters when it is merged. All parameters are kept in float32 by default and cast down to
the layer's dtype at use, so that the base's activations are never cast up.
"""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lorakit.core.free import wide
from lorakit.core.sums import Sums

Parameters = dict[str, Tensor]
Inputs = tuple[tuple[Any, ...], dict[str, Any]]


class Call(NamedTuple):
    """One forward of a layer: what it got, and what it gave before any update."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Any


class Geometry(Protocol):
    """How a low-rank update acts on one type of layer; one file each in `layers/`."""

    name: str
    zero: str  # the factor that starts at zero, "A" or "B"
    quantised: bool  # the weight is kept in few bits, and `matrix` dequantises it
    stacks: bool  # the product is scale * x A^T B^T, so that a bank can make it

    def accepts(self, layer: nn.Module) -> bool:
        """Whether this geometry is right for the layer, judged by its exact type."""
        ...

    def size(self, layer: nn.Module) -> tuple[int, int]:
        """(in, out): the columns of A and the rows of B."""
        ...

    def start(self, A: Tensor, B: Tensor) -> None:
        """Fill A (rank, in) and B (out, rank) so that B A is zero."""
        ...

    def product(self, layer: nn.Module, x: Tensor, A: Tensor, B: Tensor, scale: float) -> Tensor:
        """What the layer would give for the input x if scale * B A were its weight."""
        ...

    def add(self, layer: nn.Module, x: Tensor, y: Tensor, update: LowRank) -> Tensor | None:
        """`y` with the update's product added, in place; None where only `product` will do."""
        ...

    def kernel(self, layer: nn.Module) -> tuple[int, ...]:
        """The axes of a convolution's kernel, which A has behind its own two in files."""
        ...

    def matrix(self, layer: nn.Module) -> Tensor:
        """The layer's weight as a matrix (out, in), as B A has it."""
        ...

    def layout(self, layer: nn.Module, matrix: Tensor) -> Tensor:
        """A matrix (out, in) in the layout of the layer's weight."""
        ...

    def per_output(self, layer: nn.Module, values: Tensor) -> Tensor:
        """Values (out,) in a shape that multiplies the layer's output one by one."""
        ...


class Quantised(Geometry, Protocol):
    """A geometry whose layers have no weight that a sum could be put into."""

    def closed(self, layer: nn.Module, weight: Tensor, *, again: bool) -> nn.Module:
        """A layer with this weight in the place of `layer`: a plain one, or quantised `again`."""
        ...


def first_input(call: Call) -> Tensor:
    """What a layer of one input got, positional or by keyword."""
    return call.args[0] if call.args else next(iter(call.kwargs.values()))


def by_name(layer: nn.Module, args: tuple, kwargs: dict[str, Any]) -> dict[str, Any]:
    """What a layer got, by the names of its parameters: all of it can be passed by keyword."""
    bound = inspect.signature(type(layer).forward).bind(layer, *args, **kwargs)
    kinds = {name: parameter.kind for name, parameter in bound.signature.parameters.items()}
    found: dict[str, Any] = {}
    for name, value in list(bound.arguments.items())[1:]:
        found.update(value if kinds[name] is inspect.Parameter.VAR_KEYWORD else {name: value})
    return found


class Update(nn.Module):
    """What one adapter does at one layer. `rows` are the rows of the batch it acts on, or all."""

    replaces = False  # whether it answers for the layer, so that nothing else can add to it
    reads_output = False  # whether it needs what the layer gave, before others changed it in place
    prepares = False  # whether it changes what the layer gets
    own = True  # whether its parameters stand for the layer's own; else they are new ones

    def prepare(self, layer: nn.Module, args: tuple, kwargs: dict, rows: Tensor | None) -> Inputs:
        """What the layer is to be called with, where `prepares` says that it is something else."""
        raise NotImplementedError

    def act(self, layer: nn.Module, call: Call, output: Tensor, rows: Tensor | None) -> Tensor:
        """The layer's output, changed."""
        raise NotImplementedError

    def merge_into(self, layer: nn.Module, sums: Sums) -> None:
        """Change the layer's parameters as `act` changes its output."""
        raise NotImplementedError

    def packed(self, layer: nn.Module) -> Quantised | None:
        """How to read and replace the weight that a merge changes, where it is quantised."""
        return None

    def target(self, path: str) -> str:
        """What a plan calls this update, on a layer at `path`."""
        return path

    def parts(self) -> list[Update]:
        """The updates by which files and plans know it: itself, or several that act together."""
        return [self]

    def whole(self) -> Parameters:
        """Its parameters by dotted name, as files keep them."""
        return dict(self.named_parameters())


class Rows(NamedTuple):
    """Which outputs of its layer an update is for: the name of the part, its rows, all rows."""

    part: str = ""
    outputs: Tensor | None = None
    width: int = 0


class LowRank(Update):
    """scale * B A, added to the weight of one layer (Hu et al. 2021, equation 3).

    A is (rank, in), B is (out, rank), with an axis of experts before them where there are several;
    `scale` is alpha/rank, or alpha/sqrt(rank) for rsLoRA. For a part of a fused layer (`rows`) B
    has a row for each of the `outputs` that it is for, of `width` in all. With an `anchor` (A0, B0)
    the update is scale * (B A - B0 A0): training starts at factors other than zero, the function
    does not.
    """

    outputs: Tensor | None
    A0: Tensor | None
    B0: Tensor | None

    def __init__(
        self, geometry: Geometry, A: Tensor, B: Tensor, *, alpha: float, scale: float,
        rows: Rows | None = None, anchor: tuple[Tensor, Tensor] | None = None, dropout: float = 0.0,
        in_float32: bool = False,
    ):  # fmt: skip
        super().__init__()
        self.register_buffer("A0", anchor[0] if anchor else None, persistent=False)
        self.register_buffer("B0", anchor[1] if anchor else None, persistent=False)
        self.part, outputs, self.width = rows or Rows()
        self.register_buffer("outputs", outputs, persistent=False)
        self.geometry = geometry
        self.anchored = anchor is not None  # plain attributes: buffers are slow to find
        self.spreads = outputs is not None
        self.A = nn.Parameter(A)
        self.B = nn.Parameter(B)
        self.alpha = alpha
        self.scale = scale
        self.dropout = dropout
        self.in_float32 = in_float32  # multiply in float32 where the base has two bytes a number
        self.siblings: Any = None  # updates that may take the same input: see layers/shared.py

    @property
    def rank(self) -> int:
        """The rank r: rows of A."""
        return self.A.shape[-2]

    @property
    def anchor(self) -> tuple[Tensor, Tensor] | None:
        """(A0, B0), where the update has them."""
        return None if self.A0 is None or self.B0 is None else (self.A0, self.B0)

    def act(self, layer: nn.Module, call: Call, output: Tensor, rows: Tensor | None) -> Tensor:
        x = first_input(call)
        if rows is None:
            added = self.geometry.add(layer, x, output, self)
            if added is not None:
                return added
        else:
            x = x.index_select(0, rows)
        delta = self.product(layer, self.drop(x)).to(output.dtype)
        return output + delta if rows is None else output.index_add(0, rows, delta)

    def factors(self) -> tuple[Tensor, Tensor]:
        """A and B as they act."""
        return self.A, self.B

    def plain(self) -> tuple[Tensor, Tensor, float]:
        """A, B and alpha as files keep them, detached; a rank of 0 leaves the update out."""
        return self.A.detach(), self.B.detach(), self.alpha

    def product(self, layer: nn.Module, x: Tensor) -> Tensor:
        """What the low-rank change of the weight makes of x."""
        if self.in_float32 and x.is_floating_point():
            x = x.to(wide(x.dtype))
        A, B = self.factors()
        made = self.geometry.product(layer, x, A, self.spread(B), self.scale)
        if self.anchor is None:
            return made
        A0, B0 = self.anchor
        return made - self.geometry.product(layer, x, A0, self.spread(B0), self.scale)

    def delta(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        """The change of the weight, (out, in), detached."""
        A, B = (factor.detach().to(device, dtype) for factor in self.factors())
        change = self.spread(B) @ A
        if self.anchor is not None:
            A0, B0 = self.anchor
            change -= self.spread(B0).to(device, dtype) @ A0.to(device, dtype)
        return change.mul_(self.scale)

    def spread(self, B: Tensor) -> Tensor:
        """B with a row for each output of the layer: zeros for those of other parts."""
        if not self.spreads:
            return B
        assert self.outputs is not None
        return B.new_zeros(self.width, B.shape[1]).index_copy(0, self.outputs, B)

    def packed(self, layer: nn.Module) -> Quantised | None:
        return cast(Quantised, self.geometry) if self.geometry.quantised else None

    def target(self, path: str) -> str:
        return f"{path}:{self.part}" if self.part else path

    def drop(self, x: Tensor) -> Tensor:
        """Dropout on the input of A, while training; a row's number in a table is not dropped."""
        dropping = self.dropout and self.training and x.is_floating_point()
        return F.dropout(x, self.dropout) if dropping else x

    def merge_into(self, layer: nn.Module, sums: Sums) -> None:
        sums.add("weight", self.geometry.layout(layer, self.delta(*sums.place("weight"))))

    def extra_repr(self) -> str:
        *_, out, rank = self.B.shape
        part = f"part={self.part}, " if self.part else ""
        return f"{part}in={self.A.shape[-1]}, out={out}, rank={rank}, scale={self.scale:g}"
