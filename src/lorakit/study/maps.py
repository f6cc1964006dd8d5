"""Pictures of matrices: maps in a colour scale that also colour-blind readers can follow."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lorakit.study.figures import Picture, plain

SCALE = "cividis"
WRITTEN = 144  # cells up to which their values are written in them


@dataclass(frozen=True)
class Sides:
    """What a map's rows and columns are, and the names of each; without names they are counted."""

    rows: str
    columns: str
    row_names: Sequence[str] | None = None
    column_names: Sequence[str] | None = None


def heatmap(
    name: str, caption: str, panels: Mapping[str, Sequence[Sequence[float]]], sides: Sides, *,
    unit: str, span: tuple[float, float] | None = None,
) -> Picture:  # fmt: skip
    """One map for each panel, all in one scale from `span`'s low to high; values where few."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    across = 2 if len(panels) == 4 else min(len(panels), 3)
    down = math.ceil(len(panels) / across)
    figure = Figure(figsize=(1.0 + 2.9 * across, 0.4 + 2.7 * down), layout="constrained")
    FigureCanvasAgg(figure)
    every = figure.subplots(down, across, squeeze=False)
    values = [value for matrix in panels.values() for row in matrix for value in row]
    low, high = span or (min(values), max(values))
    image: Any = None
    for place, (title, matrix) in enumerate(panels.items()):
        axes = every[place // across][place % across]
        image = axes.imshow(
            matrix, cmap=SCALE, vmin=low, vmax=high, aspect="auto", interpolation="nearest"
        )
        axes.set_title(plain(title), fontsize=9)
        _label(axes, matrix, sides, first=place % across == 0, last=place + across >= len(panels))
        if len(matrix) * len(matrix[0]) <= WRITTEN and len(matrix[0]) <= 12:
            _write(axes, matrix, image, small=len(panels) > 1)
    for place in range(len(panels), across * down):
        every[place // across][place % across].set_visible(False)
    figure.colorbar(image, ax=list(every.flat), label=plain(unit), fraction=0.05, pad=0.02)
    return Picture(name, caption, figure)


def _label(
    axes: Any, matrix: Sequence[Sequence[float]], sides: Sides, *, first: bool, last: bool
) -> None:
    """Names on the sides, or counts from 1; the axes' own labels on the outer panels alone."""
    for names, count, ticks in (
        (sides.column_names, len(matrix[0]), axes.set_xticks),
        (sides.row_names, len(matrix), axes.set_yticks),
    ):
        if names is None:
            step = max(1, 2 ** math.ceil(math.log2(max(1, count / 8))))
            spots = sorted({0, *range(step - 1, count, step)})
            ticks(spots, [str(spot + 1) for spot in spots], fontsize=8)
        else:
            tight = ticks == axes.set_xticks and max(map(len, names)) * len(names) > 34
            turned = {"rotation": 40, "ha": "right"} if tight else {}
            ticks(range(count), [plain(own) for own in names], fontsize=8, **turned)
    if last:
        axes.set_xlabel(plain(sides.columns), fontsize=9)
    if first:
        axes.set_ylabel(plain(sides.rows), fontsize=9)


def _write(axes: Any, matrix: Sequence[Sequence[float]], image: Any, *, small: bool) -> None:
    """Write the values into the cells, dark on light and light on dark."""
    digits = 0 if all(float(value).is_integer() for line in matrix for value in line) else 2
    for row, line in enumerate(matrix):
        for column, value in enumerate(line):
            red, green, blue, _ = image.cmap(image.norm(value))
            light = 0.299 * red + 0.587 * green + 0.114 * blue > 0.5
            axes.text(
                column, row, f"{value:.{digits}f}", ha="center", va="center",
                fontsize=6 if small else 7.5, color="black" if light else "white",
            )  # fmt: skip
