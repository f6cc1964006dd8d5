"""The ends of files that grow: of events and logs only the last part is read."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from lorakit.jobs.cache import Kept

SIZES = (1 << 13, 1 << 17, 1 << 20)  # bytes, until what is looked for is found
_LOGGED = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} ([A-Z]+) (.*)")


def last_lines(file: Path, size: int, begin: int = 0) -> list[str]:
    """The lines in the last `size` bytes that lie behind `begin`; one that is cut is left out."""
    try:
        with file.open("rb") as stream:
            whole = stream.seek(0, os.SEEK_END)
            start = max(begin, whole - size)
            stream.seek(start)
            content = stream.read(size)
    except OSError:
        return []
    lines = content.decode(errors="replace").split("\n")
    return lines if start == begin else lines[1:]


def _last_step(file: Path) -> dict[str, Any] | None:
    for size in SIZES:
        lines = last_lines(file, size)
        for line in reversed(lines[:-1]):  # what follows the last line's end is not whole yet
            event = parse(line)
            if event is not None and "loss" in event:
                return event
    return None


def parse(line: str | bytes) -> dict[str, Any] | None:
    """The event in a line; None for what is none."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) and type(event.get("step")) is int else None


def number(value: Any) -> float | None:
    """A number of an event that can be drawn and summed, else None: files may be damaged."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if abs(value) < 1e15 else None  # so also for what is no number


def _last_logged(file: Path) -> tuple[str, str] | None:
    for line in reversed(last_lines(file, SIZES[0])):
        if found := _LOGGED.fullmatch(line):
            return found[1], found[2]
    return None


last_step = Kept(_last_step)  # the last training step of events.jsonl, or None
last_logged = Kept(_last_logged)  # (level, message) of the last entry of log.txt, or None
