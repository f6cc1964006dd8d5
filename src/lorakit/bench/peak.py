"""`lorakit bench peak`: the most memory a step takes at once, with a vocabulary of usual size.

Counted is what torch's allocator hands out during a step, above what was there when it began: the
model, the optimiser and its state. On a CPU the profiler reports every piece as it is taken and
given back, those inside operations too: the same figure in every run, within 1 % of what the
kernel reports as resident for a process of its own. Libraries' own workspaces do not count.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch.autograd.profiler import profile

from lorakit.bench.bases import Shape
from lorakit.bench.memory import as_row, one_by_one
from lorakit.bench.table import Row
from lorakit.bench.train import Case
from lorakit.bench.ways import Choice

TITLE = "peak memory of a training step, above model and optimiser; goals are shares of PEFT's"
WHY = (  # a goal is not reached
    "the logits are made in chunks; the rest are the layers' own activations."
)
COMPARED = ["floor", "lorakit", "PEFT", "PEFT, base's dtype", "full"]
_MEMORY = "[memory]"  # the profiler's name for memory that is taken or given back


def cases() -> list[Case]:
    """Long and short rows; the goals are shares of PEFT's."""
    long = Shape(length=512, vocabulary=32000)
    return [
        Case(long, Choice(), "bf16", 0.30), Case(long, Choice(dropout=0.05), "bf16", 0.30),
        Case(replace(long, length=128), Choice(), "bf16", 0.30),
        Case(long, Choice(), "fp32", 0.30),
    ]  # fmt: skip


def measure(
    case: Case, *, rounds: int = 1, device: str = "cpu", ways: list[str] | None = None
) -> Row:
    """A case; `rounds` change nothing."""
    del rounds
    found = one_by_one(case, ways or COMPARED, device, lambda step: peak_bytes(step, device))
    return as_row(f"{case}, vocabulary {case.shape.vocabulary}", found, case.goal)


def peak_bytes(step: Callable[[], object], device: str = "cpu") -> int:
    """The most memory that a step has at once, above what there is before it."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with profile(profile_memory=True) as seen:
        step()
    results: Any = seen  # its memory events are in no typed interface
    results = results.kineto_results
    changes = [event for event in results.events() if event.name() == _MEMORY]
    now = most = 0
    for change in sorted(changes, key=lambda event: event.start_ns()):
        now += change.nbytes()
        most = max(most, now)
    return most
