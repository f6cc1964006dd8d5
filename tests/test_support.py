"""The support matrix: no cell that is neither proved nor refused by type, and the page says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from cells import METHODS, ROWS, row

PAGE = Path(__file__).resolve().parents[1] / "docs" / "support.md"


def written() -> dict[str, list[str]]:
    lines = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| ")]
    return {cells[0]: cells[1:] for cells in (line.strip("| ").split(" | ") for line in lines)}


@pytest.mark.parametrize("name", ROWS)
def test_every_cell_is_proved_or_refused(name):
    found = row(name)
    assert set(found.values()) <= {"yes", "no"}
    assert written()[name] == list(found.values()), "run: python scripts/support.py"


def test_the_page_has_these_rows_and_columns():
    assert list(written()) == ["layer", *ROWS]
    assert written()["layer"] == list(METHODS)
