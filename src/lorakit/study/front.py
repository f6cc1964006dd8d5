"""A picture of a trade: a score against what it costs, with the front that nothing beats."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from lorakit.study.figures import Axis, Picture, canvas, dress, legend, plain, style

# Where a name may stand around its point, in points of print: near first, far with a leader line.
_RINGS = (9, 18, 28, 40, 55, 70, 90, 115)
_ANGLES = [
    math.radians(sign * angle) for angle in (15, 45, 75, 90, 105, 135, 165) for sign in (1, -1)
]


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
    spots = [axes.transData.transform((point.cost, point.score)) for point in points]
    bars, lines = [], []
    for point, (x, y) in zip(points, spots):
        ends = [y if v is None else axes.transData.transform((point.cost, v))[1]
                for v in (point.low, point.high)]  # fmt: skip
        bars.append(Bbox.from_extents(x - 3 * unit, ends[0], x + 3 * unit, ends[1]))
    ends = [axes.transData.transform((point.cost, point.score)) for point in best]
    for begin, end in pairwise(ends):
        lines += _along(begin, end, unit)
    scene = _Scene(unit, axes.get_window_extent(renderer), spots, bars, lines)
    # The crowded ones choose first.
    for number in sorted(range(len(points)), key=lambda i: _nearest(spots, i)):
        text = axes.annotate(
            plain(points[number].name), (points[number].cost, points[number].score),
            xytext=(0, 0), textcoords="offset points", fontsize=9, va="center",
        )  # fmt: skip
        box = text.get_window_extent(renderer)
        text.remove()
        place = scene.place(number, box.width, box.height)
        leader = {"arrowstyle": "-", "color": "#888888", "lw": 0.7, "shrinkB": 4}
        text = axes.annotate(
            plain(points[number].name), (points[number].cost, points[number].score),
            xytext=place.shift, textcoords="offset points", fontsize=9, va="center",
            ha=place.aligned, arrowprops=leader if place.leader else None, path_effects=halo,
        )  # fmt: skip
        text.set_in_layout(False)  # else the axes would move from under the names


@dataclass(frozen=True)
class _Place:
    """Where a name stands: its offset in points, alignment, box, and its leader line as boxes."""

    shift: tuple[float, float]
    aligned: str
    box: Any
    leader: list[Any]


class _Scene:
    """What a picture has, in pixels, so that a name finds the place that hides the least."""

    def __init__(self, unit: float, room: Any, spots: Any, bars: list[Any], lines: list[Any]):
        from matplotlib.transforms import Bbox

        self.unit, self.room, self.spots = unit, room, spots  # a unit is a point of print
        half = 5 * unit
        marks = [Bbox.from_bounds(x - half, y - half, 2 * half, 2 * half) for x, y in spots]
        # What a name would cover, with the price of a pixel of it.
        self.things = [*((own, 20) for own in marks), *((own, 3) for own in bars),
                       *((own, 1) for own in lines)]  # fmt: skip
        self.names: list[Any] = []

    def place(self, number: int, width: float, height: float) -> _Place:
        """The best place for the name of a point, which is taken from then on."""
        best = min(self._places(number, width, height), key=lambda own: self._cost(number, own))
        self.names.append(best.box)
        self.things += [(own, 1) for own in best.leader]
        return best

    def _places(self, number: int, width: float, height: float) -> Iterator[_Place]:
        from matplotlib.transforms import Bbox

        x, y = self.spots[number]
        for ring in _RINGS:
            for angle in _ANGLES:
                across, up = math.cos(angle), math.sin(angle)
                aligned = "left" if across > 0.2 else "right" if across < -0.2 else "center"
                shift = (across * ring, up * ring)
                end = (x + shift[0] * self.unit, y + shift[1] * self.unit)
                left = end[0] - {"left": 0, "right": width, "center": width / 2}[aligned]
                box = Bbox.from_bounds(left, end[1] - height / 2, width, height)
                leader = _along((x, y), end, self.unit) if ring > _RINGS[0] else []
                yield _Place(shift, aligned, box.padded(1.5 * self.unit), leader)

    def _cost(self, number: int, place: _Place) -> float:
        box, unit = place.box, self.unit
        outside = 1 - _shared(box, self.room) / (box.width * box.height)
        cost = 1e6 * outside + 1e4 * sum(_shared(box, own) for own in self.names)
        cost += sum(price * _shared(box, own) for own, price in self.things)
        if place.leader:
            x, y = self.spots[number]
            end = (x + place.shift[0] * unit, y + place.shift[1] * unit)
            others = [own for at, own in enumerate(self.spots) if at != number]
            near = sum(_distance(own, (x, y), end) < 5 * unit for own in others)
            over = sum(_shared(step, own) > 0 for step in place.leader for own in self.names)
            # A line that is long, upright along a bar, over a name or another's mark misleads.
            upright = abs(place.shift[0]) < 3
            cost += math.hypot(*place.shift) + 100 * near + 500 * over + 100 * upright
        return cost


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
