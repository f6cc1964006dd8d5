"""What is asked of the index, in SQL; values are never part of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from lorakit.core.errors import LibraryError, did_you_mean
from lorakit.library.words import match

Order = Literal["newest", "name", "rank", "size"]
ORDERS: dict[str, str] = {
    "newest": "date DESC, name", "name": "name", "rank": "rank DESC, name",
    "size": "bytes DESC, name",
}  # fmt: skip
FACETS = ("base", "task", "method", "format", "tag")
_MOST = 2**31


def question(
    text: str, filters: Mapping[str, str | None], tags: Iterable[str], *, order: str,
    limit: int | None, offset: int,
) -> tuple[str, list[Any]]:  # fmt: skip
    """The query, and the values for its places."""
    if order not in tuple(ORDERS):
        raise LibraryError(
            f"order is {order!r}; expected one of {', '.join(ORDERS)}."
            + did_you_mean(str(order), ORDERS)
        )
    for name, number in (("limit", 0 if limit is None else limit), ("offset", offset)):
        if not isinstance(number, int) or isinstance(number, bool) or number < 0:
            raise LibraryError(f"{name} is {number!r}; expected a whole number from 0 on.")
    where, values = ["1"], []
    wanted = match(text)
    if wanted:
        where.append("number IN (SELECT rowid FROM texts WHERE texts MATCH ?)")
        values.append(wanted)
    for name, value in filters.items():
        if value is not None:
            where.append(f"{name} = ?")
            values.append(_plain(value))
    for tag in [tags] if isinstance(tags, str) else tags:
        where.append("number IN (SELECT number FROM tags WHERE tag = ?)")
        values.append(_plain(tag))
    asked = (
        f"SELECT stored FROM entries WHERE {' AND '.join(where)} "
        f"ORDER BY {ORDERS[order]}, id LIMIT ? OFFSET ?"
    )
    most = -1 if limit is None else min(limit, _MOST)
    return asked, [*values, most, min(offset, _MOST)]


def counted(connection: sqlite3.Connection, name: str) -> dict[str, int]:
    """How many entries have each value of one of the `FACETS`; those without any are left out."""
    table, column = ("tags", "tag") if name == "tag" else ("entries", name)
    rows = connection.execute(
        f"SELECT {column}, COUNT(*) FROM {table} WHERE {column} != '' GROUP BY {column} "
        f"ORDER BY COUNT(*) DESC, {column}"
    )
    return dict(rows.fetchall())


def _plain(value: str) -> str:
    """The text without halves of pairs, which a database does not take."""
    return value.encode("utf-8", "replace").decode()
