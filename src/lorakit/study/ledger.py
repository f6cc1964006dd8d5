"""A file of finished measurements, one JSON object a line, that survives whatever ends the process.

A line is flushed to the disk before the next measurement begins. One that was cut off by a crash is
dropped when the file is read, and what it was of is measured again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lorakit.core.errors import SaveError


def key_of(settings: Mapping[str, Any]) -> str:
    """The settings as canonical JSON: equal settings have equal keys, in whatever order."""
    return json.dumps(settings, sort_keys=True, separators=(",", ":"))


class Ledger:
    """The lines of one file, and a way to add one."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[dict[str, Any]]:
        """Every whole line; what nothing ends is no line. Raises `SaveError` for a damaged one."""
        if not self.path.exists():
            return []
        *lines, _ = self.path.read_bytes().split(b"\n")
        found = []
        for number, line in enumerate(lines, 1):
            try:
                entry = json.loads(line)
            except ValueError as error:
                raise SaveError(
                    f"{self.path}, line {number} is damaged: {error}. Delete that line to have it "
                    "measured again."
                ) from error
            if not isinstance(entry, dict):
                raise SaveError(f"{self.path}, line {number} is no JSON object. Delete that line.")
            found.append(entry)
        return found

    def mend(self) -> None:
        """Cut off what a crash left of a last line, so that the next one begins a line."""
        if not self.path.exists():
            return
        content = self.path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            with self.path.open("r+b") as file:
                file.truncate(whole)
                os.fsync(file.fileno())

    def add(self, entry: Mapping[str, Any]) -> None:
        """Append one line and wait until the disk has it."""
        line = json.dumps(entry, ensure_ascii=False, allow_nan=False) + "\n"
        with self.path.open("ab") as file:
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())
