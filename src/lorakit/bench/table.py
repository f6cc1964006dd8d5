"""What is measured, as rows; and rows as a table, JSON and a picture."""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from lorakit.bench.timing import Ratio
from lorakit.core.errors import PlanError
from lorakit.formats.manifest import versions

Bars = dict[str, Ratio]


class Amount(NamedTuple):
    """A number with its unit, such as megabytes or milliseconds."""

    number: float
    unit: str = ""

    def __str__(self) -> str:
        digits = 2 if abs(self.number) < 10 else 1
        return f"{self.number:.{digits}f} {self.unit}".rstrip()


@dataclass(frozen=True)
class Row:
    """One case: what was measured for each way, and the goal for `reached` (less is better)."""

    case: str
    values: Mapping[str, Ratio | Amount]
    goal: float | None = None
    reached: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the goal is met by the figure as it is shown."""
        if self.goal is None or self.reached is None:
            return None
        return round(self.reached, 2) <= self.goal


def machine(device: str = "cpu") -> str:
    """What was measured on, in a line: the class of machine, threads, versions and the day."""
    where = torch.cuda.get_device_name() if device.startswith("cuda") else platform.machine()
    known = versions()
    return (
        f"{where}, {torch.get_num_threads()} of {os.cpu_count()} threads; torch {known['torch']}, "
        f"transformers {known['transformers']}; {datetime.date.today().isoformat()}"
    )


def table(title: str, rows: Sequence[Row], why: str = "") -> str:
    """The rows in Markdown: a column for each way, then the goal, what was reached, and if so.

    Where some row does not reach its goal, `why` stands below.
    """
    names = list(dict.fromkeys(name for row in rows for name in row.values))
    head = [title, *names, "goal", "reached", "met"]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        cells = [str(row.values.get(name, "")) for name in names]
        goal = ["" if value is None else f"{value:.2f}" for value in (row.goal, row.reached)]
        lines.append([row.case, *cells, *goal, {True: "yes", False: "no", None: ""}[row.met]])
    text = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    missed = why and any(row.met is False for row in rows)
    return f"{text}\n\nNot reached, and why: {why}" if missed else text


def as_json(tables: Mapping[str, Sequence[Row]], device: str) -> dict[str, Any]:
    """All of it, by kind, with the machine."""
    return {
        "machine": machine(device),
        "tables": {
            kind: [
                {
                    "case": row.case, "goal": row.goal, "reached": row.reached,
                    "values": {name: _plain(value) for name, value in row.values.items()},
                }
                for row in rows
            ]
            for kind, rows in tables.items()
        },
    }  # fmt: skip


def _plain(value: Ratio | Amount) -> dict[str, float | str]:
    if isinstance(value, Ratio):
        return {
            "median": value.middle, "low": value.low, "high": value.high,
            **({} if value.wall is None else {"median_by_wall_time": value.wall}),
        }  # fmt: skip
    return {"value": value.number, "unit": value.unit}


def picture(title: str, rows: Sequence[Row], place: Path) -> Path:
    """A bar for each way and case, with its quartiles; where these are ratios, a line at 1.

    Raises `PlanError` where the figures are in several units.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    units = {getattr(value, "unit", "") for row in rows for value in row.values.values()}
    if len(units) > 1:
        raise PlanError(f"Bars in {', '.join(sorted(units))} do not compare. Leave --picture out.")
    names = list(dict.fromkeys(n for row in rows for n in row.values if n != "floor again"))
    figure, axes = pyplot.subplots(figsize=(9, 1.2 + 0.85 * len(rows)), layout="constrained")
    colours = ("#1f4e9c", "#c44e52", "#e1a3a5", "#9a9a9a", "#55a868", "#8172b2")
    height = 0.8 / len(names)
    for order, name in enumerate(names):
        own = [(line, row.values[name]) for line, row in enumerate(rows) if name in row.values]
        spots = [line + (order - (len(names) - 1) / 2) * height for line, _ in own]
        axes.barh(
            spots, [_middle(value) for _, value in own], height, label=name,
            xerr=[list(side) for side in zip(*(_spread(value) for _, value in own))],
            color=colours[order % len(colours)], error_kw={"linewidth": 0.8},
        )  # fmt: skip
    if all(isinstance(value, Ratio) for row in rows for value in row.values.values()):
        axes.axvline(1, color="black", linewidth=0.8)
    axes.set_yticks(range(len(rows)), [_short(row.case) for row in rows], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, None)  # bars are compared by their lengths
    axes.set_xlabel(", ".join(filter(None, [title, *units])))
    axes.legend(fontsize=8, frameon=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.savefig(place, dpi=120)
    pyplot.close(figure)
    return place


def _middle(value: Ratio | Amount) -> float:
    return value.middle if isinstance(value, Ratio) else value.number


def _spread(value: Ratio | Amount) -> tuple[float, float]:
    """How far the quartiles are below and above."""
    if isinstance(value, Amount):
        return 0.0, 0.0
    return max(0.0, value.middle - value.low), max(0.0, value.high - value.middle)


def _short(text: str) -> str:
    first, _, rest = text.partition(" layers, ")
    return f"{first} layers,\n{rest}" if rest else text
