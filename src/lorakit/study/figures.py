"""Pictures of results: lines with bands, bars, dots; maps and fronts are in files of their own.

Colours are those of Okabe and Ito (2008), which colour-blind readers tell apart; every series has a
marker or a hatch of its own as well, so that a print in grey can be read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lorakit.study.statistics import Interval

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
HATCHES = ("", "///", "...", "xx", "\\\\\\", "++", "oo", "--")
DPI = 140


@dataclass(frozen=True)
class Picture:
    """A figure, the name of its files, and what it shows, in words."""

    name: str
    caption: str
    figure: Any

    def save(self, folder: Path) -> list[Path]:
        """Write it as PNG and as SVG; the same figure gives the same bytes."""
        import matplotlib

        folder.mkdir(parents=True, exist_ok=True)
        files = [folder / f"{self.name}.png", folder / f"{self.name}.svg"]
        with matplotlib.rc_context({"svg.hashsalt": self.name}):
            self.figure.savefig(files[0], dpi=DPI)
            self.figure.savefig(files[1], metadata={"Date": None})
        return files


@dataclass(frozen=True)
class Series:
    """One line or one kind of bar: its values, and the ends of their intervals where known."""

    name: str
    values: Sequence[float]
    low: Sequence[float | None] | None = None
    high: Sequence[float | None] | None = None

    @classmethod
    def of(cls, name: str, found: Sequence[Interval | None]) -> Series:
        """A series of means with their intervals; nothing is drawn where there is none."""
        return cls(
            name, [own.mean if own else math.nan for own in found],
            [own.low if own else None for own in found],
            [own.high if own else None for own in found],
        )  # fmt: skip


@dataclass(frozen=True)
class Axis:
    """An axis: what it measures, with its unit; `log` for values over several powers of ten.

    `span` is what of it is shown, where a few values would press the others together.
    """

    label: str
    log: bool = False
    span: tuple[float, float] | None = None


def lines(
    name: str, caption: str, x: tuple[Axis, Sequence[float]], y: Axis, series: Sequence[Series]
) -> Picture:
    """A line for each series over common places, with a band from low to high."""
    figure, axes = canvas()
    axis, places = x
    handles = []
    for number, own in enumerate(series):
        colour, marker = style(number)
        handles += axes.plot(
            places, own.values, color=colour, marker=marker, markersize=5, lw=1.6,
            markevery=max(1, len(places) // 12),
        )  # fmt: skip
        if own.low is not None and own.high is not None:
            ends = zip(own.low, own.values, own.high)
            low, high = zip(*((v if a is None else a, v if b is None else b) for a, v, b in ends))
            axes.fill_between(places, low, high, color=colour, alpha=0.15, linewidth=0)
    dress(axes, axis, y)
    if axis.log or len(places) <= 8:
        axes.set_xticks(places, [short(place) for place in places])
        axes.minorticks_off()
    legend(axes, handles, [own.name for own in series])
    return Picture(name, caption, figure)


def bars(
    name: str, caption: str, groups: Sequence[str], y: Axis, series: Sequence[Series], *,
    reference: float | None = None, stacked: bool = False,
) -> Picture:  # fmt: skip
    """Bars beside each other, or on top of each other, for every group; a line at `reference`."""
    figure, axes = canvas(width=max(6.4, 1.0 + 0.26 * len(groups) * (len(series) + 1)))
    handles, floor = [], [0.0] * len(groups)
    width = 0.6 if stacked else 0.8 / len(series)
    for number, own in enumerate(series):
        shift = 0.0 if stacked else (number - (len(series) - 1) / 2) * width
        handles.append(axes.bar(
            [place + shift for place in range(len(groups))], own.values, width,
            bottom=floor if stacked else None, yerr=_errors(own), color=style(number)[0],
            hatch=HATCHES[number % len(HATCHES)], edgecolor="white", linewidth=0.5,
            error_kw={"linewidth": 1, "capsize": 2.5, "ecolor": "#333333"},
        ))  # fmt: skip
        if stacked:
            floor = [below + value for below, value in zip(floor, own.values)]
    if reference is not None:
        axes.axhline(reference, color="#333333", linewidth=1, linestyle="--")
    dress(axes, Axis(""), y)
    axes.grid(visible=False, axis="x")
    fit_ticks(axes, groups)
    legend(axes, handles, [own.name for own in series])
    return Picture(name, caption, figure)


def dots(
    name: str, caption: str, places: Sequence[str], y: Axis, series: Sequence[Series], *,
    groups: str = "",
) -> Picture:  # fmt: skip
    """Values with their intervals by group, for scores whose differences are small beside them.

    Bars have to begin at 0; dots do not. `groups` is what `places` are, with its unit.
    """
    figure, axes = canvas(width=max(6.4, 1.0 + 0.2 * len(places) * (len(series) + 1)))
    handles = []
    for number, own in enumerate(series):
        colour, marker = style(number)
        shift = (number - (len(series) - 1) / 2) * 0.7 / len(series)
        handles.append(axes.errorbar(
            [place + shift for place in range(len(places))], own.values, _errors(own),
            color=colour, marker=marker, markersize=6, linestyle="none", capsize=3, lw=1.2,
        ))  # fmt: skip
    for place in range(len(places) - 1) if len(series) > 1 else ():
        axes.axvline(place + 0.5, color="#BBBBBB", lw=0.8)
    dress(axes, Axis(groups), y)
    axes.grid(visible=False, axis="x")
    axes.set_xlim(-0.5, len(places) - 0.5)
    fit_ticks(axes, places)
    legend(axes, handles, [own.name for own in series])
    return Picture(name, caption, figure)


def _errors(own: Series) -> list[list[float]] | None:
    """How far the ends are from the values; 0 where they are not known."""
    if own.low is None or own.high is None:
        return None
    return [
        [max(0.0, v - (v if a is None else a)) for a, v in zip(own.low, own.values)],
        [max(0.0, (v if b is None else b) - v) for b, v in zip(own.high, own.values)],
    ]


def canvas(width: float = 6.4, height: float = 4.0) -> tuple[Figure, Any]:
    """A figure that draws without a screen, and its axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots()


def style(number: int) -> tuple[str, str]:
    """Colour and marker of a series; past the colours, the same ones with other markers."""
    return COLOURS[number % len(COLOURS)], MARKERS[(number + number // 8) % len(MARKERS)]


def dress(axes: Any, x: Axis, y: Axis) -> None:
    """Labels, scales, a light grid, and no frame above and on the right."""
    axes.set_xlabel(plain(x.label))
    axes.set_ylabel(plain(y.label))
    for axis, scale, ticks in (
        (x, axes.set_xscale, axes.xaxis), (y, axes.set_yscale, axes.yaxis),
    ):  # fmt: skip
        if axis.log:
            scale("log")
            ticks.set_major_formatter(lambda value, _: short(value))
    axes.grid(visible=True, alpha=0.25)
    axes.set_axisbelow(True)
    if y.span is not None:
        axes.set_ylim(*y.span)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def legend(axes: Any, handles: Sequence[Any], names: Sequence[str]) -> None:
    """The names of series below the axes, where no data are; none for a single series."""
    if len(names) < 2:
        return
    fitting = max(1, 90 // (max(map(len, names)) + 6))
    rows = -(-len(names) // fitting)
    columns = -(-len(names) // rows)
    axes.figure.legend(
        handles, [plain(name) for name in names], loc="outside lower center", ncols=columns,
        frameon=False, fontsize=9,
    )  # fmt: skip


def fit_ticks(axes: Any, names: Sequence[str]) -> None:
    """Names under bars, turned where they would run into each other."""
    tight = max(map(len, names), default=0) * len(names) > 62
    axes.set_xticks(
        range(len(names)), [plain(name) for name in names], rotation=30 if tight else 0,
        ha="right" if tight else "center", fontsize=9,
    )  # fmt: skip


def short(value: float) -> str:
    """A number on an axis: 20k, 3M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= 10 * size or (size > 1e3 and abs(value) >= size):
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def plain(text: str) -> str:
    """A text that is drawn as it is: a dollar sign begins no formula."""
    return text.replace("$", r"\$")
