"""`lorakit bench modes`: steps that are compiled, and steps whose blocks are recomputed.

A compiled step is measured against the frozen model as it is, and must be one graph without a
break; a checkpointed one against the frozen model, checkpointed as well.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from lorakit.bench.bases import DTYPES, Shape, batch, make
from lorakit.bench.table import Row
from lorakit.bench.timing import interleave, ratio
from lorakit.bench.train import FLOOR
from lorakit.bench.ways import Choice, available, make_step
from lorakit.core.registry import root_of
from lorakit.models.checkpointing import checkpoint_blocks

TITLE = "time of a step that is compiled, over the frozen model; or checkpointed, over it likewise"
WHY = (  # a goal is not reached
    "compiled: the compiled frozen model, without an optimiser, is at the figure of its own "
    "column, and five ways to write the update make no difference beyond noise."
)
COMPARED = ["floor", "lorakit", "PEFT", "PEFT, base's dtype", "full"]


@dataclass(frozen=True)
class Case:
    """One row: `mode` is "compiled" or "checkpointed"."""

    mode: str
    shape: Shape
    choice: Choice
    precision: str
    goal: float | None = None

    def __str__(self) -> str:
        return f"{self.mode}, {self.precision}, {self.shape}, r {self.choice.rank}"


def cases() -> list[Case]:
    """One row for each mode."""
    return [
        Case("compiled", Shape(), Choice(), "bf16", 0.90),
        Case("checkpointed", Shape(), Choice(), "bf16", 1.25),
    ]


def measure(
    case: Case, *, rounds: int = 15, device: str = "cpu", ways: list[str] | None = None,
    backend: str = "inductor",
) -> Row:  # fmt: skip
    """A case, all ways interleaved; without figures where nothing here can compile for the CPU."""
    compiling = case.mode == "compiled"
    if compiling and backend == "inductor" and device == "cpu" and compiler() is None:
        return Row(f"{case}: no C++ compiler here; install g++, or name one in CXX", {}, case.goal)
    base = make(case.shape, DTYPES[case.precision], device)
    given = batch(case.shape, base)

    def compiled(model: Any) -> Callable[..., Any]:
        return torch.compile(model, backend=backend, fullgraph=True)

    def checkpointed(model: Any) -> Callable[..., Any]:
        checkpoint_blocks(root_of(model))
        return model

    prepare = compiled if compiling else checkpointed
    names = available(ways or COMPARED)
    steps = {}
    for name in names:
        shown = f"{name}, {case.mode}" if name == FLOOR and compiling else name
        steps[shown] = make_step(name, base, case.choice, given, prepare=prepare)
    if compiling:
        steps[FLOOR] = make_step(FLOOR, base, case.choice, given)
    timings = interleave(steps, rounds, device=device)
    ratios = {name: ratio(timings[name], timings[FLOOR]) for name in steps if name != FLOOR}
    return Row(str(case), ratios, case.goal, ratios["lorakit"].middle)


def compiler() -> str | None:
    """The C++ compiler that Inductor would call, or None."""
    return shutil.which(os.environ.get("CXX") or "g++") or shutil.which("clang++")
