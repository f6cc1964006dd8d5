"""Pictures that are drawn to scale, as SVG with its meaning in words."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

SIDE = 180  # pixels of the longer side of W
LEAST = 3  # pixels of a side
MOST = 24  # bars with a number below each


def product(rows: int, columns: int, rank: int, lost: float) -> str:
    """W (rows, columns) plus B (rows, rank) times A (rank, columns), and what the numbers say."""
    scale = SIDE / max(rows, columns)
    high, wide = max(LEAST, rows * scale), max(LEAST, columns * scale)
    thin = max(LEAST, rank * scale)
    middle = 20 + SIDE / 2
    b_left = 60 + wide + 50
    a_left = b_left + thin + 40
    parts = [
        _box(60, middle - high / 2, wide, high, "w", f"W  {rows} x {columns}"),
        _sign(60 + wide + 25, middle, "+"),
        _box(b_left, middle - high / 2, thin, high, "b", f"B  {rows} x {rank}"),
        _sign(b_left + thin + 20, middle, "·"),
        _box(a_left, middle - thin / 2, wide, thin, "a", f"A  {rank} x {columns}"),
    ]
    full, low = rows * columns, rank * (rows + columns)
    told = (
        f"{low:,} parameters instead of {full:,}, {low / full:.1%} of them; rank {rank} keeps all "
        f"but {lost:.1%} of this change."
    )
    return str(
        Markup(
            '<figure class="product"><svg viewBox="0 0 {:.0f} {:.0f}" role="img" aria-label="{}">'
            "{}</svg><figcaption>{}</figcaption></figure>"
        ).format(a_left + wide + 60, SIDE + 60, told, Markup("").join(parts), told)
    )


def lost(shares: Sequence[float], kept: int) -> str:
    """A bar for each rank from 0 on: the share of a change that is lost; the kept rank is marked.

    Of more than `MOST` ranks the bars have no numbers, as these would not be read.
    """
    wide, tall = 640 / len(shares), 120
    bars = Markup("").join(
        Markup(
            '<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}">'
            "<title>rank {}: {:.1%} is lost</title></rect>"
        ).format(
            "kept" if rank == kept else "other", 40 + rank * wide, 10 + tall * (1 - share),
            max(1.0, wide - 3), max(1.0, tall * share), rank, share,
        )
        for rank, share in enumerate(shares)
    )  # fmt: skip
    numbers = Markup("").join(
        Markup('<text class="{}" x="{:.1f}" y="{}" text-anchor="middle">{}</text>').format(
            "kept" if rank == kept else "other", 40 + (rank + 0.5) * wide, tall + 26, rank
        )
        for rank in range(len(shares))
        if len(shares) <= MOST or rank in (0, kept, len(shares) - 1)
    )
    axis = Markup(
        '<text x="34" y="16" text-anchor="end">1</text>'
        '<text x="34" y="{}" text-anchor="end">0</text>'
    ).format(tall + 12)
    return str(
        Markup(
            '<figure class="lost"><svg viewBox="0 0 690 {}" role="img" aria-label="{}">{}{}{}</svg>'
            "<figcaption>What is lost, |change - kept| / |change|, by the rank that is kept"
            "</figcaption></figure>"
        ).format(
            tall + 34, f"rank {kept} loses {shares[kept]:.1%} of the change", bars, numbers, axis
        )
    )  # fmt: skip


def spark(values: Sequence[float]) -> Markup:
    """A curve as small as a word, from its first value to its last."""
    known = [own for own in values if math.isfinite(own)]
    if len(known) < 2:
        return Markup("")
    low, high = min(known), max(known)
    wide, tall = 64, 16
    points = " ".join(
        f"{1 + (wide - 2) * place / (len(known) - 1):.1f},"
        f"{1 + (tall - 2) * (high - own) / ((high - low) or 1.0):.1f}"
        for place, own in enumerate(known)
    )
    return Markup(
        '<svg class="spark" viewBox="0 0 {} {}" role="img" aria-label="from {:.3g} to {:.3g}">'
        '<polyline points="{}"/></svg>'
    ).format(wide, tall, known[0], known[-1], points)


def _box(left: float, top: float, wide: float, high: float, kind: str, label: str) -> Markup:
    return Markup(
        '<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>'
        '<text x="{:.1f}" y="{:.1f}" text-anchor="middle">{}</text>'
    ).format(kind, left, top, wide, high, left + wide / 2, SIDE + 48, label)


def _sign(x: float, y: float, text: str) -> Markup:
    return Markup('<text class="sign" x="{:.1f}" y="{:.1f}" text-anchor="middle">{}</text>').format(
        x, y + 6, text
    )
