"""Write the table of the recipe's fields into docs/recipe.md, from the schema itself."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic_core import PydanticUndefined

from lorakit.train.recipe import fields

PAGE = Path(__file__).resolve().parents[1] / "docs" / "recipe.md"
BEGIN, END = "<!-- fields: begin -->", "<!-- fields: end -->"


def table() -> str:
    """The fields as a Markdown table."""
    rows = ["| field | default | meaning |", "|---|---|---|"]
    for name, field in fields().items():
        told = ": ".join(filter(None, (field.description, _choices(field))))
        rows.append(f"| `{name}` | {_default(field)} | {told} |")
    return "\n".join(rows)


def page(text: str) -> str:
    """The page with the table put between its marks."""
    fresh = f"{BEGIN}\n{table()}\n{END}"
    return re.sub(f"{BEGIN}.*{END}", lambda _: fresh, text, flags=re.DOTALL)


def _default(field: Any) -> str:
    if field.default is PydanticUndefined:
        return "required"
    return "" if field.default is None else f"`{field.default}`"


def _choices(field: Any) -> str:
    """The values of a field that has few."""
    return ", ".join(get_args(field.annotation)) if get_origin(field.annotation) is Literal else ""


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
