"""What an adapter will cost, known from shapes alone before any weight is loaded."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from lorakit.core.plan import split_target
from lorakit.core.site import own_parameters
from lorakit.layers.form import Form
from lorakit.layers.norm import is_norm

FLOAT = 4  # bytes: trained parameters, their gradients and AdamW's two moments are float32


@dataclass(frozen=True)
class Line:
    """One target: the shape of its layer, its rank and the parameters of its update."""

    path: str
    rows: int
    columns: int
    rank: int
    parameters: int


@dataclass(frozen=True)
class Cost:
    """Parameters and bytes of an adapter that a plan would make.

    `training_bytes` are the base's weights, the adapter, its gradient and AdamW's two moments;
    activations come on top and depend on the batch.
    """

    lines: list[Line]
    extras: dict[str, int]
    parameters: int
    base_parameters: int
    adapter_bytes: int
    base_bytes: int
    training_bytes: int
    full_training_bytes: int

    def as_dict(self) -> dict[str, Any]:
        """The cost as JSON."""
        return asdict(self)

    def __str__(self) -> str:
        groups: dict[tuple[str, int, int, int], int] = {}
        for line in self.lines:
            key = (line.path.rpartition(".")[2], line.rows, line.columns, line.rank)
            groups[key] = groups.get(key, 0) + 1
        rows = [
            f"  {count:>4} x {leaf:<20} {f'{rows} x {columns}':>15}  rank {rank}"
            for (leaf, rows, columns, rank), count in groups.items()
        ]
        rows += [f"     1 x {path:<20} trained in full" for path in self.extras]
        share = self.parameters / max(self.base_parameters, 1)
        return "\n".join(
            [
                *rows,
                f"parameters  {self.parameters:,} ({share:.2%} of the base's "
                f"{self.base_parameters:,})",
                f"on disk     {_size(self.adapter_bytes)}; the base is {_size(self.base_bytes)}",
                f"in training {_size(self.training_bytes)} without activations; full fine-tuning "
                f"{_size(self.full_training_bytes)}",
            ]
        )


def cost(
    model: nn.Module, plan: Mapping[str, int], *, extras: Sequence[str] = (), weight_bytes: int = 4,
    held: Mapping[str, int] | None = None,
) -> Cost:  # fmt: skip
    """The cost of a plan; the model may be one without weights, then `weight_bytes` are each's.

    `held` are the parameters at each module for a method that is not low-rank, `extras` included.
    """
    lines = []
    within = tuple(f"{path}." for path in extras)
    for path, count in (held or {}).items():
        if count and not f"{path}.".startswith(within):
            size = plan.get(path, 1)
            lines.append(Line(path, *_shape(model.get_submodule(path)), size, count))
    for target, rank in plan.items() if held is None else ():
        path = split_target(target)[0]
        layer = model.get_submodule(path)
        if is_norm(layer):
            count = sum(value.numel() for value in own_parameters(layer).values())
            lines.append(Line(path, own_parameters(layer)["weight"].numel(), 1, rank, count))
            continue
        form = Form.of(model, target)
        columns, rows = form.size
        count = math.prod(form.lead)
        lines.append(Line(target, rows, columns, rank, count * rank * (rows + columns)))
    whole = {p: sum(x.numel() for x in model.get_submodule(p).parameters()) for p in extras}
    trained = sum(line.parameters for line in lines) + sum(whole.values())
    base = sum(parameter.numel() for parameter in model.parameters())
    return Cost(
        lines=lines,
        extras=whole,
        parameters=trained,
        base_parameters=base,
        adapter_bytes=trained * FLOAT,
        base_bytes=base * weight_bytes,
        training_bytes=base * weight_bytes + 4 * trained * FLOAT,
        # Masters, gradients and two moments in float32, and the weights computed with if narrower.
        full_training_bytes=base * (4 * FLOAT + (weight_bytes if weight_bytes < FLOAT else 0)),
    )


def _shape(module: nn.Module) -> tuple[int, int]:
    """(rows, columns) of a module's weight, or of what of it comes first."""
    weight = next(module.parameters())
    return weight.shape[0], weight.shape[-1] if weight.dim() > 1 else 1


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.2f} {unit}"
        count /= 1000
    raise AssertionError("unreachable")
