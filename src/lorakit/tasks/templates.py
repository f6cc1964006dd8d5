r"""Templates over a row's fields: "{question}\n". Field names only; no code, no format options."""

from __future__ import annotations

from string import Formatter
from typing import Any

from lorakit.core.errors import DataError, RecipeError, did_you_mean, shortlist
from lorakit.tasks.rows import Row


def check_template(template: str, where: str) -> list[str]:
    """The fields that the template names, or `RecipeError` where it is none."""
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise RecipeError(
            f"{where} is {template!r}: {error}. Write fields as {{name}}, and braces as {{{{ }}}}."
        ) from error
    for _, name, options, conversion in parts:
        if name == "" or options or conversion:
            raise RecipeError(
                f"{where} is {template!r}: expected plain field names in braces, as in "
                "'{question}'. Write a brace itself twice."
            )
    return [name for _, name, _, _ in parts if name is not None]


def fill(template: str, row: Row, where: str) -> str:
    """The template with the row's values, or `DataError` that names the row and the field."""
    filled = []
    for literal, name, _, _ in Formatter().parse(template):
        filled.append(literal)
        if name is not None:
            filled.append(text_of(row, name, where))
    return "".join(filled)


def text_of(row: Row, name: str, where: str) -> str:
    """One field as text; numbers are written out, anything else but text is an error."""
    value = value_of(row, name, where)
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise row.error(f"{name} is {_kind(value)}; {where} needs text.")
    return value if isinstance(value, str) else str(value)


def value_of(row: Row, name: str, where: str) -> Any:
    """One field, which may lie inside another (`meta.title`), or `DataError`."""
    value: Any = row.fields
    if name in row.fields:
        return row.fields[name]
    for part in name.split("."):
        if not isinstance(value, dict) or part not in value:
            raise _missing(row, name, where)
        value = value[part]
    return value


def _missing(row: Row, name: str, where: str) -> DataError:
    have = shortlist(map(str, row.fields), 8)
    hint = did_you_mean(name, map(str, row.fields))
    return row.error(f"no field {name!r}, which {where} needs; it has {have}.{hint}")


def _kind(value: object) -> str:
    return "empty (null)" if value is None else f"a {type(value).__name__}"
