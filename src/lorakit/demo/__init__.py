"""The demo: everything lorakit does, once, on a tiny base that comes along with the package."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lorakit.demo.report import Report


def base_folder() -> Path:
    """The tiny pretrained base: a Llama of the project's own making, see scripts/demo_base."""
    return Path(__file__).parent / "base"


def demo(out: str | Path, *, program: str = "lorakit") -> Report:
    """Train, compare, merge and unmerge, and leave a report that opens without a network.

    `program` is what the commands that it advises begin with.
    """
    from lorakit.demo.show import show

    return show(Path(out).expanduser(), program)
