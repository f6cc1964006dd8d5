"""`lorakit bench memory`: what the forward pass keeps for the backward pass, above the floor's."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from lorakit.bench.bases import DTYPES, batch, make
from lorakit.bench.train import FLOOR, Case
from lorakit.bench.ways import available, make_step

COMPARED = ["floor", "lorakit", "PEFT", "PEFT, base's dtype", "full"]


@dataclass(frozen=True)
class Kept:
    """One row: bytes that each way keeps, and the floor's."""

    case: Case
    kept: dict[str, int]

    def above(self, way: str) -> int:
        """Bytes above those of the frozen model."""
        return self.kept[way] - self.kept[FLOOR]


def measure(
    chosen: Iterable[Case], *, device: str = "cpu", ways: list[str] | None = None,
    progress: Callable[[str], None] | None = None,
) -> list[Kept]:  # fmt: skip
    """Every case: each way alone, for one step after one that warms up."""
    found = []
    for case in chosen:
        if progress is not None:
            progress(str(case))
        base = make(case.shape, DTYPES[case.precision], device)
        given = batch(case.shape, base)
        kept = {}
        for name in available(ways or COMPARED):
            step = make_step(name, base, case.choice, given)
            step()
            kept[name] = saved_bytes(step, step.model)
        found.append(Kept(case, kept))
    return found


def saved_bytes(step: Callable[[], object], model: torch.nn.Module) -> int:
    """The memory of tensors that autograd saves during a step, each storage once.

    Parameters and buffers of the model are there anyway and do not count.
    """
    own = {_storage(value) for value in [*model.parameters(), *model.buffers()]}
    seen: dict[int, int] = {}
    held: list[Tensor] = []  # so that no address is given twice

    def pack(value: Tensor) -> Tensor:
        if _storage(value) not in own:
            seen[_storage(value)] = value.untyped_storage().nbytes()
            held.append(value)
        return value

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        step()
    return sum(seen.values())


def _storage(value: Tensor) -> int:
    return value.untyped_storage().data_ptr()
