"""`lorakit bench memory`: what the forward pass keeps for the backward pass, above the floor's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lorakit.bench import train
from lorakit.bench.bases import DTYPES, batch, make
from lorakit.bench.table import Amount, Row
from lorakit.bench.train import FLOOR, Case
from lorakit.bench.ways import available, make_step

TITLE = "kept for the backward pass, above the frozen model; goals are shares of PEFT's"
WHY = (  # a goal is not reached
    "dropout 0: what is kept are the layers' inputs, which every weight's gradient needs; "
    "PEFT in the base's dtype keeps as much."
)
COMPARED = ["floor", "lorakit", "PEFT", "PEFT, base's dtype", "full"]


def cases() -> list[Case]:
    """Without and with dropout, whose masks a peer keeps; the goals are shares of PEFT's."""
    first, second, *_ = train.cases()
    return [replace(first, goal=0.25), replace(second, goal=0.15)]


def measure(
    case: Case, *, rounds: int = 1, device: str = "cpu", ways: list[str] | None = None
) -> Row:
    """A case; `rounds` change nothing."""
    del rounds
    kept = one_by_one(case, ways or COMPARED, device, lambda step: saved_bytes(step, step.model))
    above = {name: own - kept[FLOOR] for name, own in kept.items() if name != FLOOR}
    return as_row(str(case), above, case.goal)


def one_by_one(
    case: Case, ways: list[str], device: str, count: Callable[[Any], int]
) -> dict[str, int]:
    """Bytes of each way alone, as `count` finds them in a step after one that warms up."""
    base = make(case.shape, DTYPES[case.precision], device)
    given = batch(case.shape, base)
    found = {}
    for name in available(ways):
        step = make_step(name, base, case.choice, given)
        step()
        found[name] = count(step)
    return found


def as_row(case: str, found: dict[str, int], goal: float | None) -> Row:
    """The row of some bytes; what is to reach the goal is our share of PEFT's."""
    share = found["lorakit"] / found["PEFT"] if "PEFT" in found else None
    return Row(case, {n: Amount(own / 2**20, "MB") for n, own in found.items()}, goal, share)


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
