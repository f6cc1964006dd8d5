"""`lorakit bench train`: what a step of training costs, over what the frozen model costs."""

from __future__ import annotations

from dataclasses import dataclass

from lorakit.bench.bases import DTYPES, Shape, batch, make
from lorakit.bench.table import Row
from lorakit.bench.timing import interleave, ratio
from lorakit.bench.ways import Choice, available, make_step

TITLE = "time of a training step, over forward and backward of the frozen model"
WHY = (  # a goal is not reached
    "rank 64 and float32: what is left is the products' own time, the optimiser's share, and "
    "one addition to the input's gradient for each shared product. Rows within 0.02 of their goal "
    "move across it from run to run."
)
FLOOR = "floor"
COMPARED = ["floor", "floor again", "lorakit", "PEFT", "PEFT, base's dtype", "loralib", "full"]


@dataclass(frozen=True)
class Case:
    """One row of the table, and the goal for it."""

    shape: Shape
    choice: Choice
    precision: str
    goal: float | None = None

    def __str__(self) -> str:
        some = (
            "" if self.choice.targets == ("all-linear",) else f", {'+'.join(self.choice.targets)}"
        )
        return (
            f"{self.precision}, {self.shape}, r {self.choice.rank}{some}, dropout "
            f"{self.choice.dropout:g}"
        )


def cases() -> list[Case]:
    """The grid that the goals are stated for."""
    wide, long, bert = Shape(), Shape(length=512), Shape(kind="bert")
    plain, dropped, large = Choice(), Choice(dropout=0.05), Choice(rank=64)
    attention = Choice(targets=("q", "v"))
    return [
        Case(wide, plain, "bf16", 1.09), Case(wide, dropped, "bf16", 1.18),
        Case(long, plain, "bf16", 1.06), Case(long, dropped, "bf16", 1.12),
        Case(wide, large, "bf16", 1.13),
        Case(wide, plain, "fp32", 1.04), Case(wide, dropped, "fp32", 1.10),
        Case(bert, plain, "bf16", 1.15), Case(bert, dropped, "bf16", 1.30),
        Case(wide, attention, "bf16", 1.03),
    ]  # fmt: skip


def measure(
    case: Case, *, rounds: int = 15, device: str = "cpu", ways: list[str] | None = None
) -> Row:
    """A case, all ways interleaved in this process: each one's time over the floor's."""
    base = make(case.shape, DTYPES[case.precision], device)
    given = batch(case.shape, base)
    names = available(ways or COMPARED)
    steps = {name: make_step(name, base, case.choice, given) for name in names}
    timings = interleave(steps, rounds, device=device)
    ratios = {name: ratio(timings[name], timings[FLOOR]) for name in names if name != FLOOR}
    return Row(str(case), ratios, case.goal, ratios["lorakit"].middle)
