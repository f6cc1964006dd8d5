"""A picture of a trade: a score against what it costs, with the front that nothing beats."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from lorakit.study.figures import Axis, Picture, canvas, dress, legend, plain, style

# Where a label may stand around its point, in points of print: near first, far with a leader line.
_RINGS = (9, 20, 34, 50, 70, 90)
_SIDES = ((1, 0.3), (1, -0.8), (-1, 0.3), (-1, -0.8), (0, 1), (0, -1.2), (1, 1), (-1, 1))


@dataclass(frozen=True)
class Point:
    """One method in the trade: what it costs, what it scores, and the ends of the score."""

    name: str
    cost: float
    score: float
    low: float | None = None
    high: float | None = None
    kind: str = ""  # points of one kind have one colour


def pareto(
    name: str, caption: str, cost: Axis, score: Axis, points: Sequence[Point], *,
    more_is_better: bool = True,
) -> Picture:  # fmt: skip
    """Every point with its name and interval, and a line through those that no other beats."""
    figure, axes = canvas(7.2, 4.6)
    kinds = list(dict.fromkeys(point.kind for point in points))
    handles: dict[str, Any] = {}
    for point in points:
        colour, marker = style(kinds.index(point.kind))
        down = 0.0 if point.low is None else max(0.0, point.score - point.low)
        up = 0.0 if point.high is None else max(0.0, point.high - point.score)
        handles[point.kind] = axes.errorbar(
            point.cost, point.score, [[down], [up]],
            color=colour, marker=marker, markersize=7, linestyle="none", capsize=2.5, lw=1,
        )  # fmt: skip
    best = front(points, more_is_better=more_is_better)
    (handles["best at its cost"],) = axes.plot(
        [point.cost for point in best], [point.score for point in best], color="#555555",
        lw=1, linestyle="--", zorder=1,
    )  # fmt: skip
    dress(axes, cost, score)
    axes.margins(0.12)
    legend(axes, list(handles.values()), list(handles))
    _name_points(figure, axes, points, best)
    return Picture(name, caption, figure)


def front(points: Sequence[Point], *, more_is_better: bool = True) -> list[Point]:
    """The points that none beats in score at the same or a lower cost, cheapest first."""
    sign = 1 if more_is_better else -1
    found: list[Point] = []
    for point in sorted(points, key=lambda own: (own.cost, -sign * own.score)):
        if not found or sign * point.score > sign * found[-1].score:
            found.append(point)
    return found


def _name_points(figure: Any, axes: Any, points: Sequence[Point], best: Sequence[Point]) -> None:
    """Put a name to every point where it covers no other name, point or bar, nor the front."""
    from matplotlib.patheffects import withStroke
    from matplotlib.transforms import Bbox

    halo = [withStroke(linewidth=2.5, foreground="white")]  # over the front's line
    figure.draw_without_rendering()  # so that the places of points and texts are known
    renderer, unit = figure.canvas.get_renderer(), figure.dpi / 72
    room = axes.get_window_extent(renderer)
    spots = [axes.transData.transform((point.cost, point.score)) for point in points]
    taken = [Bbox.from_bounds(x - 5 * unit, y - 5 * unit, 10 * unit, 10 * unit) for x, y in spots]
    for point, (x, y) in zip(points, spots):
        ends = [y if v is None else axes.transData.transform((point.cost, v))[1]
                for v in (point.low, point.high)]  # fmt: skip
        taken.append(Bbox.from_extents(x - 3 * unit, ends[0], x + 3 * unit, ends[1]))
    ends = [axes.transData.transform((point.cost, point.score)) for point in best]
    for begin, end in pairwise(ends):
        taken += _along(begin, end, unit)
    names: list[Any] = []
    # The crowded ones choose first.
    order = sorted(range(len(points)), key=lambda i: _nearest(spots, i))
    for number in order:
        text = axes.annotate(
            plain(points[number].name), (points[number].cost, points[number].score),
            xytext=(0, 0), textcoords="offset points", fontsize=9, va="center",
        )  # fmt: skip
        box = text.get_window_extent(renderer)
        others = [spot for at, spot in enumerate(spots) if at != number]
        size = (box.width, box.height)
        chosen = _place(spots[number], size, [*taken, *names], others, names, room, unit)
        text.remove()
        shift, aligned, box, far = chosen
        names.append(box)
        if far:
            end = [at + by * unit for at, by in zip(spots[number], shift)]
            taken += _along(spots[number], end, unit)
        line = {"arrowstyle": "-", "color": "#888888", "lw": 0.7, "shrinkB": 4} if far else None
        text = axes.annotate(
            plain(points[number].name), (points[number].cost, points[number].score),
            xytext=shift, textcoords="offset points", fontsize=9, va="center", ha=aligned,
            arrowprops=line, path_effects=halo,
        )  # fmt: skip
        text.set_in_layout(False)  # else the axes would move from under the names


def _place(
    spot: Any, size: tuple[float, float], taken: Sequence[Any], others: Sequence[Any],
    names: Sequence[Any], room: Any, unit: float,
) -> tuple[tuple[float, float], str, Any, bool]:  # fmt: skip
    """The first free offset in points, its alignment, the box it fills, and if it is far off."""
    from matplotlib.transforms import Bbox

    width, height = size
    best: tuple[float, Any] | None = None
    for ring in _RINGS:
        for across, up in _SIDES:
            if not across and ring > _RINGS[1]:
                continue  # the leader line would run along the point's own bar
            aligned = {1: "left", -1: "right", 0: "center"}[across]
            left = spot[0] + across * ring * unit - {1: 0, -1: width, 0: width / 2}[across]
            middle = spot[1] + up * ring * unit
            box = Bbox.from_bounds(left, middle - height / 2, width, height).padded(1.5 * unit)
            covered = sum(_shared(box, other) for other in taken)
            inside = _shared(box, room) / max(box.width * box.height, 1e-9)
            far = ring > _RINGS[0]
            end = (spot[0] + across * ring * unit, middle)
            crossed = far and (
                any(_distance(other, spot, end) < 6 * unit for other in others)
                or any(_shared(step, own) for step in _along(spot, end, unit) for own in names)
            )
            hidden = sum(_shared(box, own) for own in names)  # worse than a line that is crossed
            cost = covered + (1 - inside) * 1e6 + crossed * 1e3 + hidden * 1e4
            found = ((across * ring, up * ring), aligned, box, far)
            if best is None or cost < best[0] - 1e-9:
                best = (cost, found)
            if covered == 0 and inside > 0.999 and not crossed:
                return found
    assert best is not None
    return best[1]


def _shared(one: Any, two: Any) -> float:
    """The area that two boxes share."""
    wide = min(one.x1, two.x1) - max(one.x0, two.x0)
    high = min(one.y1, two.y1) - max(one.y0, two.y0)
    return max(0.0, wide) * max(0.0, high)


def _along(begin: Any, end: Any, unit: float) -> list[Any]:
    """Small boxes along a line, between its ends."""
    from matplotlib.transforms import Bbox

    (x, y), (x2, y2) = begin, end
    count = max(1, round(max(abs(x2 - x), abs(y2 - y)) / (4 * unit)))
    steps = [(x + (x2 - x) * part / count, y + (y2 - y) * part / count) for part in range(1, count)]
    return [Bbox.from_bounds(a - unit, b - unit, 2 * unit, 2 * unit) for a, b in steps]


def _distance(point: Any, begin: Any, end: Any) -> float:
    """From a point to a leader line, but for where it leaves the point that it is for."""
    (x, y), (a, b), (c, d) = point, begin, end
    square = (c - a) ** 2 + (d - b) ** 2
    along = min(1.0, max(0.0, ((x - a) * (c - a) + (y - b) * (d - b)) / square))
    return math.hypot(x - a - along * (c - a), y - b - along * (d - b)) if along else math.inf


def _nearest(spots: Sequence[Any], number: int) -> float:
    x, y = spots[number]
    gaps = [(x - a) ** 2 + (y - b) ** 2 for i, (a, b) in enumerate(spots) if i != number]
    return min(gaps, default=0.0)
