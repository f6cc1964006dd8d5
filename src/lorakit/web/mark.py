"""Whether an adapter is still the one that was read."""

from __future__ import annotations

from pathlib import Path

Mark = tuple[tuple[str, int, int, int], ...]


def mark_of(place: Path) -> Mark:
    """Names, sizes, times and inodes of an adapter's files: another mark is another adapter."""
    files = sorted(place.iterdir()) if place.is_dir() else [place]
    states = [(own.name, own.stat()) for own in files if own.is_file()]
    return tuple((name, own.st_size, own.st_mtime_ns, own.st_ino) for name, own in states)
