"""One adapter of a library, as a card shows it."""

from __future__ import annotations

import hashlib
import os
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Entry:
    """What is known of one adapter without reading its tensors.

    `path` is its folder or file, `root` the folder of the library that it was found in, and `run`
    the folder of the run that made it, where it lies in one. `name` is what folder or file are
    called, `title` a name to show. `date` is UTC in ISO 8601: when it was trained, else when it was
    written. `problem` says in one line why it cannot be used, or is "".
    """

    id: str
    path: str
    root: str
    name: str
    title: str = ""
    base: str = ""
    task: str = ""
    method: str = ""
    format: str = ""
    ranks: tuple[int, ...] = ()
    parameters: int = 0
    bytes: int = 0
    preview: str | None = None
    sample: str = ""
    description: str = ""
    triggers: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    metrics: dict[str, float] = field(default_factory=dict)
    date: str = ""
    run: str | None = None
    source: str = ""
    problem: str = ""

    @property
    def rank(self) -> str:
        """The ranks as text: "8", "4 to 16", or "" where there is none."""
        if not self.ranks:
            return ""
        low, high = min(self.ranks), max(self.ranks)
        return str(low) if low == high else f"{low} to {high}"

    @property
    def shown(self) -> str:
        """The title, or else the name, as text that can be printed."""
        return self.title or printable(self.name)

    @property
    def place(self) -> Path:
        """The folder or file."""
        return Path(self.path)

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON for people and pages: paths are texts that can be printed."""
        found = asdict(self)
        for name in ("path", "root", "name", "preview", "run"):
            found[name] = None if found[name] is None else printable(found[name])
        return {**found, "rank": self.rank, "shown": self.shown}

    def stored(self) -> dict[str, Any]:
        """All of it as JSON from which `restored` makes it again."""
        return asdict(self)


def restored(stored: dict[str, Any]) -> Entry:
    """The entry of `Entry.stored`."""
    known = {own.name: stored[own.name] for own in fields(Entry)}
    lists = {name: tuple(known[name]) for name in ("ranks", "triggers", "tags")}
    return Entry(**{**known, **lists})


def entry_id(path: Path) -> str:
    """A short name of a path that stays the same; `path` has no links in its folders."""
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:16]


def printable(path: str) -> str:
    """The path's text, with a mark in the place of bytes that are no text."""
    return os.fsencode(path).decode("utf-8", "replace")
