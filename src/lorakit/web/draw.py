"""Pictures that are drawn to scale, as SVG with its meaning in words."""

from __future__ import annotations

from markupsafe import Markup

SIDE = 180  # pixels of the longer side of W
LEAST = 3  # pixels of a side


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


def _box(left: float, top: float, wide: float, high: float, kind: str, label: str) -> Markup:
    return Markup(
        '<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>'
        '<text x="{:.1f}" y="{:.1f}" text-anchor="middle">{}</text>'
    ).format(kind, left, top, wide, high, left + wide / 2, SIDE + 48, label)


def _sign(x: float, y: float, text: str) -> Markup:
    return Markup('<text class="sign" x="{:.1f}" y="{:.1f}" text-anchor="middle">{}</text>').format(
        x, y + 6, text
    )
