"""`lorakit bench lifecycle`: what adapters cost when they come, go, switch, merge and are many."""

from __future__ import annotations

from lorakit.bench.bases import Shape
from lorakit.bench.stages import STAGES, Case
from lorakit.bench.table import Row

TITLE = "stages of an adapter's life, in CPU time"
WHY = (  # a goal is not reached
    "load: `load_file` maps the file and reads none of it, and sha256 alone takes longer. "
    "Merge: PEFT adds in place and in the base's dtype, which is why its base is another one "
    "afterwards; here the sum is made in a wider dtype, the base's own weights are kept, and "
    "the report counts every weight. Inject: milliseconds are this machine's, at this hour."
)


def cases() -> list[Case]:
    """The stages that the goals are stated for.

    Goals: milliseconds a layer (inject), times of a bare load (load), milliseconds (activate, use),
    times of PEFT (merge, unmerge), a share of the weights (bits), times of one alone (forward).
    """
    deep, block = Shape(width=16, layers=80), Shape(width=16, layers=10)
    folder, large, small = Shape(layers=16), Shape(layers=3), Shape(width=256, layers=1)
    tiny = Shape(width=16, layers=1, rows=1, length=16)
    return [
        Case("inject", deep, rank=2, goal=0.1),
        Case("inject", block, rank=2, present=10, goal=0.1),
        Case("inject", block, rank=2, present=400, goal=0.1),
        Case("load, foreign", folder, goal=3),
        Case("load, proved", folder, goal=3),
        Case("save", folder),
        Case("activate", deep, rank=2, goal=1),
        Case("use", deep, rank=2, goal=1),
        Case("merge", large, precision="bf16", goal=0.5),
        Case("merge", large, precision="fp32", goal=0.5),
        Case("unmerge", large, precision="bf16", goal=0.5),
        Case("unmerge", large, precision="fp32", goal=0.5),
        Case("bits", small, precision="bf16", goal=0),
        Case("bits", small, precision="bf16", cycles=100, goal=0),
        Case("register", tiny, rank=2, present=1000),
        Case("forward", tiny, rank=2, present=1000, goal=1.05),
    ]


def measure(case: Case, *, rounds: int = 15, device: str = "cpu") -> Row:
    """One stage; with an adapter of ours and one of PEFT's on bases of the same weights."""
    return STAGES[case.stage](case, rounds, device)
