"""Tables, JSON and pictures of what was measured."""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from lorakit.bench.memory import Kept
from lorakit.bench.train import FLOOR, Measured
from lorakit.formats.manifest import versions


def machine(device: str = "cpu") -> str:
    """What was measured on, in a line: the class of machine, threads, versions and the day."""
    where = torch.cuda.get_device_name() if device.startswith("cuda") else platform.machine()
    known = versions()
    return (
        f"{where}, {torch.get_num_threads()} of {os.cpu_count()} threads; torch {known['torch']}, "
        f"transformers {known['transformers']}; {datetime.date.today().isoformat()}"
    )


def train_table(rows: Sequence[Measured]) -> str:
    """Time of a step over the floor's: median of the rounds, quartiles, and the goal."""
    names = list(rows[0].ratios)
    head = ["a step's time over the frozen model's", *names, "goal", "met"]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        goal = row.case.goal
        reached = round(row.ratios["lorakit"].middle, 2)  # as it is shown
        met = "" if goal is None else ("yes" if reached <= goal else "no")
        cells = [str(row.ratios[name]) for name in names]
        lines.append([str(row.case), *cells, "" if goal is None else f"{goal:.2f}", met])
    return _table(lines)


def memory_table(rows: Sequence[Kept]) -> str:
    """Megabytes kept for the backward pass above the floor's, and ours as a share of PEFT's."""
    names = [name for name in rows[0].kept if name != FLOOR]
    head = ["kept for the backward pass, above the frozen model's", *names, "of PEFT's"]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        cells = [f"{row.above(name) / 2**20:.1f} MB" for name in names]
        share = row.above("lorakit") / row.above("PEFT") if "PEFT" in names else None
        lines.append([str(row.case), *cells, "" if share is None else f"{share:.2f}"])
    return _table(lines)


def as_json(rows: Sequence[Measured | Kept], device: str) -> dict[str, Any]:
    """All of it, with the machine."""
    found = []
    for row in rows:
        if isinstance(row, Measured):
            values: dict[str, Any] = {
                name: [own.middle, own.low, own.high] for name, own in row.ratios.items()
            }
        else:
            values = dict(row.kept)
        found.append({"case": str(row.case), "goal": row.case.goal, "values": values})
    return {"machine": machine(device), "rows": found}


def picture(rows: Sequence[Measured], place: Path) -> Path:
    """A bar for each way and case, with its quartiles; the floor is a line at 1."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = [name for name in rows[0].ratios if name != "floor again"]
    figure, axes = pyplot.subplots(figsize=(9, 1.2 + 0.85 * len(rows)), layout="constrained")
    colours = ("#1f4e9c", "#c44e52", "#e1a3a5", "#9a9a9a")
    height = 0.8 / len(names)
    for place_of, name in enumerate(names):
        own = [row.ratios[name] for row in rows]
        spots = [line + (place_of - (len(names) - 1) / 2) * height for line in range(len(rows))]
        errors = [
            [max(0.0, value.middle - value.low) for value in own],
            [max(0.0, value.high - value.middle) for value in own],
        ]
        axes.barh(
            spots, [value.middle for value in own], height, xerr=errors, label=name,
            color=colours[place_of % len(colours)], error_kw={"linewidth": 0.8},
        )  # fmt: skip
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_yticks(range(len(rows)), [_short(str(row.case)) for row in rows], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, None)  # bars are compared by their lengths
    axes.set_xlabel("time of a training step, over forward and backward of the frozen model")
    axes.legend(fontsize=8, frameon=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.savefig(place, dpi=120)
    pyplot.close(figure)
    return place


def _short(text: str) -> str:
    first, _, rest = text.partition(" layers, ")
    return f"{first} layers,\n{rest}"


def _table(lines: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
