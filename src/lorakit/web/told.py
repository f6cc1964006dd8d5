"""What the page says in place: errors with their way out, and notes. All of it escaped."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from markupsafe import Markup

from lorakit.core.errors import LorakitError

LONGEST = 1200  # characters of a message
BROUGHT = re.compile(r"\S*/gradio/[0-9a-f]{64}/")  # where Gradio keeps what a browser brought


def alert(message: object) -> str:
    """An error, as it is said on the command line; read out by screen readers."""
    text = BROUGHT.sub("", " ".join(str(message).split()))
    shown = text if len(text) <= LONGEST else text[:LONGEST] + "..."
    return str(Markup('<div class="told bad" role="alert">{}</div>').format(shown))


def note(message: object, *, good: bool = False) -> str:
    """Something to know."""
    kind = "good" if good else "plain"
    return str(Markup('<div class="told {}" role="status">{}</div>').format(kind, message))


@dataclass
class Caught:
    """The message of an error that ended a block, or nothing."""

    message: str = ""

    @property
    def html(self) -> str:
        """The message as the page shows it."""
        return alert(self.message) if self.message else ""

    def __bool__(self) -> bool:
        return bool(self.message)


@contextmanager
def caught() -> Iterator[Caught]:
    """Keep a `LorakitError` of the block as what the page shows; any other is a fault of ours."""
    found = Caught()
    try:
        yield found
    except LorakitError as error:
        found.message = str(error)


def number(value: object, name: str) -> float:
    """A number that a component gave; one that was emptied gives none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise LorakitError(f"There is no number for {name}. Set one.")
    return float(value)


def whole(value: object, name: str) -> int:
    """The same for whole numbers."""
    return int(number(value, name))


def size(count: float) -> str:
    """Bytes as people say them."""
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:,.1f} {unit}"
        count /= 1000
    raise AssertionError


def span(seconds: float) -> str:
    """A time as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"
