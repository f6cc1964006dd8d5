"""Values of targets as a table: a row for each block of the model, a column for each role in it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lorakit.layers.role import ATTENTION_NAMES, GATE_NAMES, GATE_UP_NAMES, UP_NAMES

ELSEWHERE = "elsewhere"  # the row of targets that are in no numbered block
ITSELF = "itself"  # the column of a block that is a target
_LEAVES = [
    *(name for names in ATTENTION_NAMES.values() for name in names),
    *GATE_NAMES, *GATE_UP_NAMES, *UP_NAMES,
]  # fmt: skip


@dataclass(frozen=True)
class Layout:
    """Where targets stand: rows and columns in the model's order, and the target of each cell."""

    rows: list[str]
    columns: list[str]
    cells: Mapping[tuple[str, str], str]

    def targets(self, *, row: str | None = None, column: str | None = None) -> list[str]:
        """The targets of a row, of a column, or all."""
        return [
            target
            for (own_row, own_column), target in self.cells.items()
            if row in (None, own_row) and column in (None, own_column)
        ]


@dataclass(frozen=True)
class Grid:
    """Rows and columns in the model's order, and the values in between, NaN where there is none."""

    rows: list[str]
    columns: list[str]
    values: list[list[float]]


def layout(targets: Iterable[str]) -> Layout:
    """The place of each target (`model.layers.3.mlp.up_proj`, `h.0.attn.c_attn:q`).

    A block is the path up to its first number; what comes after is the column, by the shortest end
    that is no other column's.
    """
    placed = {target: _split(target) for target in targets}
    rows = list(dict.fromkeys(row for row, _ in placed.values()))
    if ELSEWHERE in rows:  # embeddings and heads stand around the blocks
        rows = [*(row for row in rows if row != ELSEWHERE), ELSEWHERE]
    columns = list(dict.fromkeys(column for _, column in placed.values()))
    short = dict(zip(columns, _shortened(columns)))
    cells = {(row, short[column]): target for target, (row, column) in placed.items()}
    return Layout(rows, list(short.values()), cells)


def in_order(targets: Iterable[str]) -> list[str]:
    """Targets as a model would list them, where only a file names them, which sorts by letters.

    Numbers count as numbers, and inside of a block query, key, value and output come first, then
    gate, up and down.

    >>> in_order(["h.10.down_proj", "h.10.q_proj", "h.9.v_proj", "h.9.k_proj"])
    ['h.9.k_proj', 'h.9.v_proj', 'h.10.q_proj', 'h.10.down_proj']
    """

    def key(target: str) -> tuple:
        row, column = _split(target)
        block = [(part.isdigit(), int(part) if part.isdigit() else part) for part in row.split(".")]
        leaf = column.rpartition(".")[2]
        return block, _LEAVES.index(leaf) if leaf in _LEAVES else len(_LEAVES), column

    return sorted(targets, key=key)


def grid(values: Mapping[str, float]) -> Grid:
    """The table of values by target, as `layout` has them."""
    there = layout(values)
    table = [
        [
            float(values.get(there.cells.get((row, column), ""), math.nan))
            for column in there.columns
        ]
        for row in there.rows
    ]
    return Grid(there.rows, there.columns, table)


def _split(target: str) -> tuple[str, str]:
    parts = target.split(".")
    place = next((n for n, part in enumerate(parts) if part.partition(":")[0].isdigit()), None)
    if place is None:
        return ELSEWHERE, target
    block, _, inside = parts[place].partition(":")
    after = ([inside] if inside else []) + parts[place + 1 :]
    return ".".join([*parts[:place], block]), ".".join(after) or ITSELF


def _shortened(columns: list[str]) -> list[str]:
    """Each column by its shortest dotted end that is the end of no other."""
    found = []
    for column in columns:
        parts = column.split(".")
        ends = (".".join(parts[-count:]) for count in range(1, len(parts) + 1))
        alone = (e for e in ends if sum(f".{other}".endswith(f".{e}") for other in columns) == 1)
        found.append(next(alone, column))
    return found
