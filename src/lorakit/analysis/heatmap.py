"""Values of targets as a table: a row for each block of the model, a column for each role in it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

ELSEWHERE = "elsewhere"  # the row of targets that are in no numbered block
ITSELF = "itself"  # the column of a block that is a target


@dataclass(frozen=True)
class Grid:
    """Rows and columns in the model's order, and the values in between, NaN where there is none."""

    rows: list[str]
    columns: list[str]
    values: list[list[float]]


def grid(values: Mapping[str, float]) -> Grid:
    """The table of values by target (`model.layers.3.mlp.up_proj`, `h.0.attn.c_attn:q`).

    A block is the path up to its first number; what comes after is the column, by the shortest end
    that is no other column's.
    """
    placed = {target: _split(target) for target in values}
    rows = list(dict.fromkeys(row for row, _ in placed.values()))
    if ELSEWHERE in rows:  # embeddings and heads stand around the blocks
        rows = [*(row for row in rows if row != ELSEWHERE), ELSEWHERE]
    columns = list(dict.fromkeys(column for _, column in placed.values()))
    table = [[math.nan] * len(columns) for _ in rows]
    for target, (row, column) in placed.items():
        table[rows.index(row)][columns.index(column)] = float(values[target])
    return Grid(rows, _shortened(columns), table)


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
