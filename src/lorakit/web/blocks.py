"""A model's blocks as a table of buttons: which layers are adapted, and with which rank."""

from __future__ import annotations

from collections.abc import Mapping

from markupsafe import Markup
from torch import nn

from lorakit.analysis.heatmap import Layout, layout
from lorakit.models.roles import linear_paths

MOST = 200  # rows that are drawn: a page of thousands of buttons helps nobody
# A click on a cell, a row's or a column's head tells the page which it was.
ON_LOAD = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-cells]');
  if (button) trigger('click', {cells: button.dataset.cells.split(' ')});
});
"""


def blocks_of(model: nn.Module) -> Layout:
    """Every linear layer of a model but its head, by block."""
    return layout(linear_paths(model))


def toggled(chosen: Mapping[str, int], clicked: list[str], rank: int) -> dict[str, int]:
    """The plan after a click: cells that all have this rank go out, else all get it."""
    if all(chosen.get(path) == rank for path in clicked):
        return {path: own for path, own in chosen.items() if path not in clicked}
    return {**chosen, **dict.fromkeys(clicked, rank)}


def draw(
    grid: Layout, chosen: Mapping[str, int], *, words: tuple[str, str] | None = None
) -> Markup:
    """The table; a cell's colour deepens with its rank, which is written on it.

    With `words` a cell is either of these two and not ranked.
    """
    top = max(chosen.values(), default=1)
    head = Markup("").join(
        Markup('<th scope="col">{}</th>').format(
            _button(grid.targets(column=column), column, f"all {column}")
        )
        for column in grid.columns
    )
    body = Markup("").join(
        Markup('<tr><th scope="row">{}</th>{}</tr>').format(
            _button(grid.targets(row=row), row, f"all of {row}"),
            Markup("").join(
                _cell(grid, row, column, chosen, top, words) for column in grid.columns
            ),
        )
        for row in grid.rows[:MOST]
    )
    more = len(grid.rows) - MOST
    told = Markup("<p>and {} more blocks</p>").format(more) if more > 0 else ""
    return Markup(
        '<div class="blocks" role="group" aria-label="Layers that are adapted, by block">'
        "<table><thead><tr><td></td>{}</tr></thead><tbody>{}</tbody></table>{}</div>"
    ).format(head, body, told)


def _cell(
    grid: Layout, row: str, column: str, chosen: Mapping[str, int], top: int,
    words: tuple[str, str] | None,
) -> Markup:  # fmt: skip
    path = grid.cells.get((row, column))
    if path is None:
        return Markup("<td></td>")
    rank = chosen.get(path, 0)
    on, without = words or (f"rank {rank}", "not adapted")
    label = f"{path}, {on if rank else without}"
    text = ("on" if rank else "off") if words else rank or "·"
    deep = round(25 + 75 * rank / top) if rank else 0
    return Markup(
        '<td><button type="button" data-cells="{}" aria-pressed="{}" aria-label="{}" title="{}" '
        'style="--deep: {}%">{}</button></td>'
    ).format(path, "true" if rank else "false", label, label, deep, text)


def _button(paths: list[str], text: str, label: str) -> Markup:
    return Markup('<button type="button" data-cells="{}" aria-label="{}">{}</button>').format(
        " ".join(paths), label, text
    )
