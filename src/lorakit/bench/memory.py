"""`lorakit bench memory`: what the forward pass keeps for the backward pass, above the floor's."""

from __future__ import annotations

from dataclasses import replace

from lorakit.analysis.kept import saved_bytes
from lorakit.bench import train
from lorakit.bench.bases import DTYPES, batch, make
from lorakit.bench.table import Amount, Row
from lorakit.bench.train import FLOOR, Case
from lorakit.bench.ways import available, make_step

TITLE = "kept for the backward pass, above the frozen model; goals are shares of PEFT's"
COMPARED = ["floor", "lorakit", "PEFT", "PEFT, base's dtype", "full"]


def cases() -> list[Case]:
    """Without and with dropout, whose masks a peer keeps; the goals are shares of PEFT's."""
    first, second, *_ = train.cases()
    return [replace(first, goal=0.25), replace(second, goal=0.15)]


def measure(
    case: Case, *, rounds: int = 1, device: str = "cpu", ways: list[str] | None = None
) -> Row:
    """A case: each way alone, for one step after one that warms up; `rounds` change nothing."""
    del rounds
    base = make(case.shape, DTYPES[case.precision], device)
    given = batch(case.shape, base)
    kept = {}
    for name in available(ways or COMPARED):
        step = make_step(name, base, case.choice, given)
        step()
        kept[name] = saved_bytes(step, step.model)
    above = {name: own - kept[FLOOR] for name, own in kept.items() if name != FLOOR}
    share = above["lorakit"] / above["PEFT"] if "PEFT" in above else None
    shown = {name: Amount(own / 2**20, "MB") for name, own in above.items()}
    return Row(str(case), shown, case.goal, share)
