"""The folders of a library: nothing outside of them is written, moved or deleted."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from lorakit.core.errors import LibraryError, OutsideError, shortlist
from lorakit.library.entry import printable

TRASH = ".trash"


def checked_roots(roots: Iterable[str | os.PathLike]) -> tuple[Path, ...]:
    """The folders, without links and each once. Raises `LibraryError` for what is no folder."""
    found: dict[Path, None] = {}
    for root in roots:
        path = resolved(root)
        if not path.is_dir():
            raise LibraryError(
                f"{printable(str(path))} is no folder. Name one that holds adapters, or make it."
            )
        found[path] = None
    if not found:
        raise LibraryError("There is no folder to look in. Name at least one.")
    return tuple(found)


def inside(roots: Iterable[str | os.PathLike], path: str | os.PathLike) -> Path:
    """The path, the links in its folders resolved, if it is below one of the roots.

    The last part may be missing, and may be a link itself if that leads to a place below as well.
    A path that is not absolute is meant from the first root. Raises `OutsideError`, also for the
    roots themselves.
    """
    folders = [resolved(root) for root in roots]
    if not folders:
        raise OutsideError("There is no folder to look in. Name at least one.")
    text = os.fspath(path)
    asked = Path(text)
    if "\0" in text or ".." in asked.parts or asked.name in ("", "."):
        raise _outside(text, folders)
    whole = asked if asked.is_absolute() else folders[0] / asked
    place = placed(whole)
    for one in (place, resolved(place)):
        if not any(root in one.parents for root in folders):
            raise _outside(text, folders)
    return place


def root_of(roots: Iterable[Path], place: Path) -> Path:
    """The innermost of the roots that a place is below."""
    above = [root for root in roots if root in place.parents]
    return max(above, key=lambda root: len(root.parts))


def resolved(path: str | os.PathLike) -> Path:
    """The path without links. Raises `OutsideError` for what cannot be one."""
    try:
        return Path(path).expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise OutsideError(f"{os.fspath(path)!r} cannot be a path: {error}. Check it.") from error


def placed(path: str | os.PathLike) -> Path:
    """The path without links in its folders; the last part may be one."""
    asked = Path(path)
    return resolved(asked.parent) / asked.name if asked.name not in ("", "..") else resolved(asked)


def _outside(text: str, roots: list[Path]) -> OutsideError:
    folders = shortlist(printable(str(root)) for root in roots)
    return OutsideError(
        f"{text!r} is not below {folders}, and nothing else is touched. Name a place in there."
    )
