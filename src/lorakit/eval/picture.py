"""Tables of confusion as a picture that people who see few colours can read as well."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lorakit.metrics.classification import Confusion

NUMBERED = 12  # with more classes than this, numbers in cells would not be legible


def draw_confusion(tables: Mapping[str, Confusion], file: Path) -> None:
    """Draw one table for each voice, side by side: shares of a label's rows, counts as numbers.

    The file's ending says the format. Cividis has the same order of brightness for all kinds of
    sight (Nunez et al. 2018).
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    classes = max(len(one.classes) for one in tables.values())
    size = min(max(2.6, 0.55 * classes + 1.2), 12.0)
    figure = Figure(figsize=(size * len(tables) + 1, size + 0.4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    panels: Any = figure.subplots(1, len(tables), squeeze=False)[0]
    image: Any = None
    for axes, (voice, one) in zip(panels, tables.items()):
        image = axes.imshow(one.normalised, cmap="cividis", vmin=0, vmax=1)
        names = [str(name) for name in one.classes]
        axes.set_xticks(range(len(names)), names, rotation=45 if max(map(len, names)) > 3 else 0)
        axes.set_yticks(range(len(names)), names)
        axes.set_xlabel("answer")
        axes.set_ylabel("label")
        axes.set_title(f"{voice}: {one.accuracy:.1%} of {int(one.counts.sum())}", fontsize=9)
        if len(names) <= NUMBERED:
            _number(axes, one)
    figure.colorbar(image, ax=list(panels), label="share of the label's rows", shrink=0.8)
    figure.savefig(file)


def _number(axes: Any, one: Confusion) -> None:
    for row, shares in enumerate(one.normalised):
        for column, share in enumerate(shares):
            colour = "black" if share > 0.5 else "white"
            count = str(int(one.counts[row, column]))
            axes.text(column, row, count, ha="center", va="center", color=colour, fontsize=8)
