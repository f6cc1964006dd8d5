"""Values out of files that anybody may have written: of the right kind and no longer than shown."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

LONGEST = 200  # letters of a name, a base, a tag
LONGEST_TEXT = 2000  # letters of a description or a sample
MOST = 50  # tags, trigger words, metrics
_LARGEST = 10**15


def text(value: Any, longest: int = LONGEST) -> str:
    """The value as one line of at most `longest` letters, or "" where it is no text.

    Control characters, those that turn the direction of writing, and halves of pairs go.
    """
    if not isinstance(value, str):
        return ""
    kept = "".join(
        " " if char.isspace() else char
        for char in value[: 4 * longest]
        if char.isspace() or unicodedata.category(char) not in ("Cc", "Cs", "Co", "Cn")
    )
    turning = dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F])
    line = " ".join(kept.translate(turning).split())
    return line if len(line) <= longest else line[: longest - 1] + "…"


def texts(value: Any, *, split: str | None = None) -> tuple[str, ...]:
    """The texts of a list, each once; a single text is cut at `split`, where that is given."""
    listed: Iterable[Any] = ()
    if isinstance(value, str):
        listed = value[: MOST * LONGEST].split(split) if split else [value]
    elif isinstance(value, (list, tuple)):
        listed = value[: 4 * MOST]
    cleaned = dict.fromkeys(text(item) for item in listed)
    return tuple(item for item in cleaned if item)[:MOST]


def numbers(value: Any) -> dict[str, float]:
    """The finite numbers of a mapping, by name."""
    found: dict[str, float] = {}
    for key, number in list(value.items())[: 4 * MOST] if isinstance(value, dict) else ():
        plain = isinstance(number, (int, float)) and not isinstance(number, bool)
        if plain and -_LARGEST < number < _LARGEST and math.isfinite(number) and text(key):
            found[text(key)] = number
    return dict(list(found.items())[:MOST])


def read_some(path: Path, most: int) -> bytes | None:
    """The bytes of a file, or None where there is none, or it has more than `most`."""
    try:
        if not path.is_file():  # a pipe would be waited for
            return None
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError:
        return None
    return data if len(data) <= most else None
