"""What was read from a file, kept while the file stays the same: polling reads what has changed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

T = TypeVar("T")
MOST = 4096  # files; the one that was read first is forgotten first


class Kept(Generic[T]):
    """What `read` makes of files, by path, as long as inode, size and time of change are equal."""

    def __init__(self, read: Callable[[Path], T]) -> None:
        self.read = read
        self.known: dict[str, tuple[Any, T]] = {}

    def __call__(self, path: Path) -> T:
        """What `read` makes of the file; it is asked anew where the file is another."""
        key = os.fspath(path)
        try:
            stat = os.stat(key, follow_symlinks=False)
            mark: Any = (stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_mode)
        except FileNotFoundError:
            mark = None
        found = self.known.get(key)
        if found is not None and found[0] == mark:
            return found[1]
        # The mark is older than what is read, so that a change in between is seen the next time.
        value = self.read(path)
        self.known.pop(key, None)
        self.known[key] = (mark, value)
        while len(self.known) > MOST:
            self.known.pop(next(iter(self.known)), None)
        return value
