"""Write the table of benchmarks into docs/evaluation.md, from the registry itself."""

from __future__ import annotations

import re
from pathlib import Path

from lorakit.tasks.benchmarks import BENCHMARKS
from lorakit.tasks.benchmarks.base import Benchmark

PAGE = Path(__file__).resolve().parents[1] / "docs" / "evaluation.md"
BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"


def table() -> str:
    """The benchmarks as a Markdown table."""
    rows = ["| benchmark | about | task | files by split | metrics, the main one first |"]
    rows.append("|---|---|---|---|---|")
    for name, own in BENCHMARKS.items():
        cells = [
            f"`{name}`",
            own.about,
            " or ".join(own.tasks),
            _files(own),
            ", ".join(own.metrics),
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def page(text: str) -> str:
    """The page with the table put between its marks."""
    fresh = f"{BEGIN}\n{table()}\n{END}"
    return re.sub(f"{BEGIN}.*{END}", lambda _: fresh, text, flags=re.DOTALL)


def _files(own: Benchmark) -> str:
    told = [f"{split}: `{own.patterns(split)[0]}`" for split in own.files]
    return "; ".join(told)


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
