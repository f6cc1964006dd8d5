"""A picture of values by target: blocks of the model downwards, roles across."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from lorakit.analysis.heatmap import grid

_READABLE = 60  # rows up to which the values are written into their cells


def draw_heatmap(
    values: Mapping[str, float], file: Path, *, title: str = "", label: str = ""
) -> None:
    """Draw values by target (ranks, scores, norms), each written in its cell.

    Colours go from dark to light (cividis, which the colour-blind read alike). A value of zero is a
    grey cell with an x: left out. White is a role that the block does not have.
    """
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    table = grid(values)
    cells = np.array(table.values, dtype=float).reshape(len(table.rows), len(table.columns))
    shown = np.ma.masked_where(~(np.abs(cells) > 0), cells)
    held = shown.compressed().tolist() or [1.0]
    low, high = min(0.0, min(held)), max(0.0, max(held))
    tall = min(0.3, 20 / max(len(table.rows), 1))
    size = (2.6 + 0.62 * len(table.columns), 1.9 + tall * len(table.rows))
    figure = Figure(figsize=(max(size[0], 4.5), size[1]), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    image = axes.imshow(shown, cmap="cividis", aspect="auto", vmin=low, vmax=high)
    for row, line in enumerate(cells):
        for column, value in enumerate(line):
            if value == 0:
                corner = (column - 0.5, row - 0.5)
                axes.add_patch(Rectangle(corner, 1, 1, facecolor="#d9d9d9", edgecolor="none"))
            if len(table.rows) <= _READABLE and not math.isnan(value):
                dark = value != 0 and float(image.norm(value)) < 0.55  # pyright: ignore[reportArgumentType]
                text = "x" if value == 0 else f"{value:.3g}"
                axes.text(
                    column, row, text, ha="center", va="center", fontsize=7,
                    color="white" if dark else "black",
                )  # fmt: skip
    axes.set_xticks(range(len(table.columns)), table.columns, rotation=45, ha="right", fontsize=8)
    every = math.ceil(len(table.rows) / _READABLE)
    axes.set_yticks(range(0, len(table.rows), every), table.rows[::every], fontsize=8)
    axes.set_title(title, fontsize=8, wrap=True)
    figure.colorbar(image, ax=axes, label=label)
    figure.savefig(file)
