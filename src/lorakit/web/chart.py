"""Curves as SVG: axes with round numbers, a line for each series, and their values in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from markupsafe import Markup

Points = Sequence[tuple[float, float]]

WIDE, TALL = 520, 260  # units of the picture, which is scaled to its place
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 10, 42
MOST = 1e300  # values that are larger are none
TICKS = 5  # about so many on an axis
DOTS = 60  # of a line at most; each says its value to who points at it
# Okabe and Ito's colours, which people with any sight tell apart, then the same in dashes.
COLOURS = 7


def chart(lines: Mapping[str, Points], *, title: str, x: str, y: str) -> str:
    """A figure of (x, y) points by the name of their line; nothing where there is nothing to draw.

    Values that are no numbers leave a gap. Of one line the name is not shown.
    """
    known = {name: points for name, points in lines.items() if any(map(_finite, points))}
    if not known:
        return ""
    every = [own for points in known.values() for own in points if _finite(own)]
    across, up = _axis([own[0] for own in every]), _axis([own[1] for own in every]).rounded()
    drawn = Markup("").join(
        _line(name, points, _look(number), across, up)
        for number, (name, points) in enumerate(known.items())
    )
    told = "; ".join(f"{name}: {_words(points, x)}" for name, points in known.items())
    return str(
        Markup(
            '<figure class="chart"><figcaption>{}</figcaption>'
            '<svg viewBox="0 0 {} {}" role="img" aria-label="{}. {}">{}{}{}</svg>{}</figure>'
        ).format(
            title, WIDE, TALL, title, told, _across(across, x), _up(up, y), drawn,
            _legend(known) if len(known) > 1 else "",
        )
    )  # fmt: skip


class _Axis:
    """From values to units of the picture, with ticks at round numbers."""

    def __init__(self, low: float, high: float, step: float) -> None:
        self.low, self.high, self.step = low, high, step

    def rounded(self) -> _Axis:
        """From a tick to a tick."""
        low, high = math.floor(self.low / self.step + 1e-9), math.ceil(self.high / self.step - 1e-9)
        return _Axis(low * self.step, high * self.step, self.step)

    @property
    def ticks(self) -> list[float]:
        first = math.ceil(self.low / self.step - 1e-9)
        last = math.floor(self.high / self.step + 1e-9)
        return [own * self.step for own in range(first, last + 1)]

    def share(self, value: float) -> float:
        return (value - self.low) / (self.high - self.low)


def _axis(values: Sequence[float]) -> _Axis:
    low, high = min(values), max(values)
    if high - low <= max(1e-9 * max(abs(low), abs(high)), 1e-200):
        low, high = low - (abs(low) / 2 + 0.5), high + (abs(high) / 2 + 0.5)
    rough = (high - low) / TICKS
    size = 10.0 ** math.floor(math.log10(rough))
    step = size * next(own for own in (1, 2, 5, 10) if own * size >= rough * 0.999)
    return _Axis(low, high, step)


def _at(across: _Axis, up: _Axis, point: tuple[float, float]) -> tuple[float, float]:
    return (
        LEFT + (WIDE - LEFT - RIGHT) * across.share(point[0]),
        TOP + (TALL - TOP - BOTTOM) * (1 - up.share(point[1])),
    )


def _look(number: int) -> str:
    return f"line l{number % COLOURS}{' dashed' if number >= COLOURS else ''}"


def _line(name: str, points: Points, look: str, across: _Axis, up: _Axis) -> Markup:
    path, broken = [], True
    for own in points:
        if not _finite(own):
            broken = True
            continue
        path.append("{}{:.1f} {:.1f}".format("M" if broken else "L", *_at(across, up, own)))
        broken = False
    known = [own for own in points if _finite(own)]
    few = len(known) <= DOTS // 2  # are seen, others where one points
    dots = Markup("").join(
        Markup(
            '<circle cx="{:.1f}" cy="{:.1f}" r="{}"><title>{} at {:g}: {:.4g}</title></circle>'
        ).format(*_at(across, up, own), 2.5 if few else 6, name, *own)
        for own in known[:: -(-len(known) // DOTS)]
    )
    return Markup('<g class="{}{}"><path d="{}"/>{}</g>').format(
        look, " few" if few else "", "".join(path), dots
    )


def _across(axis: _Axis, label: str) -> Markup:
    floor = TALL - BOTTOM
    ticks = Markup("").join(
        Markup('<text x="{:.1f}" y="{}" text-anchor="middle">{}</text>').format(
            LEFT + (WIDE - LEFT - RIGHT) * axis.share(own), floor + 16, _number(own, axis.step)
        )
        for own in axis.ticks
    )
    return Markup(
        '<g class="axis">{}<text x="{}" y="{}" text-anchor="middle">{}</text></g>'
    ).format(ticks, (LEFT + WIDE - RIGHT) / 2, TALL - 8, label)


def _up(axis: _Axis, label: str) -> Markup:
    floor, parts = TALL - BOTTOM, []
    for own in axis.ticks:
        y = TOP + (floor - TOP) * (1 - axis.share(own))
        parts.append(
            Markup(
                '<path class="grid" d="M{} {:.1f}H{}"/><text x="{}" y="{:.1f}" '
                'text-anchor="end">{}</text>'
            ).format(LEFT, y, WIDE - RIGHT, LEFT - 6, y + 4, _number(own, axis.step))
        )
    return Markup(
        '<g class="axis">{}<text transform="rotate(-90)" x="{}" y="13" text-anchor="middle">{}'
        "</text></g>"
    ).format(Markup("").join(parts), -(TOP + floor) / 2, label)


def _legend(lines: Mapping[str, Points]) -> Markup:
    items = Markup("").join(
        Markup('<li class="{}"><svg viewBox="0 0 20 8"><path d="M0 4H20"/></svg>{}</li>').format(
            _look(number), name
        )
        for number, name in enumerate(lines)
    )
    return Markup('<ul class="legend">{}</ul>').format(items)


def _words(points: Points, x: str) -> str:
    known = [own for own in points if _finite(own)]
    (first, begin), (last, end) = known[0], known[-1]
    return f"{begin:.4g} at {x} {first:g}, {end:.4g} at {x} {last:g}"


def _number(value: float, step: float) -> str:
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{value:,.{digits}f}" if abs(value) < 1e6 and digits < 6 else f"{value:.3g}"


def _finite(point: tuple[float, float]) -> bool:
    return all(abs(own) < MOST for own in point)
