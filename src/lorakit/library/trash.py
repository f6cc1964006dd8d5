"""Deleting with a way back: what is deleted lies in the root's `.trash` until that is emptied."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from lorakit.core.errors import LibraryError, LorakitError
from lorakit.core.folder import write_whole
from lorakit.formats.tensors import read_json
from lorakit.library.beside import run_of
from lorakit.library.entry import Entry, printable
from lorakit.library.moves import move_all
from lorakit.library.read import read_entry
from lorakit.library.roots import TRASH, checked_roots, inside
from lorakit.library.untrusted import read_some
from lorakit.library.whole import at_rest, belongings, held, own_run

_RECORD, _FILES = "record.json", "files"
_MOST = 2**16
_TIME = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True)
class Deleted:
    """One deletion: its id, what it was called, where it was, its files' names, and when."""

    id: str
    root: str
    name: str
    path: str
    folder: str  # from the root, where the files go back to
    names: tuple[str, ...]
    date: str

    @property
    def place(self) -> Path:
        """The folder in the trash."""
        return Path(self.root) / TRASH / self.id

    def as_dict(self) -> dict[str, object]:
        """All of it as JSON for people and pages."""
        return {**asdict(self), "root": printable(self.root), "path": printable(self.path)}


def delete(entry: Entry, *, whole_run: bool = False) -> Deleted:
    """Move an adapter to the trash of its root, with all that is called after it.

    Of a run only the adapter goes, or with `whole_run` the run's folder. Raises `LibraryError`,
    nothing moved.
    """
    place = held(entry)
    run = own_run(entry, place)
    if whole_run and run is None:
        raise LibraryError(f"{entry.shown!r} is in no run's folder. Leave whole_run out.")
    root = Path(entry.root)
    if (root / TRASH).is_symlink():
        raise LibraryError(
            f"{printable(str(root / TRASH))} is a link, and what is deleted stays in its root. "
            "Take the link away."
        )
    with at_rest(run_of(place)):
        gone = [run] if whole_run and run is not None else belongings(place)
        now = datetime.now(timezone.utc)
        deleted = Deleted(
            f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(4)}", str(root), entry.name, str(place),
            str(gone[-1].parent.relative_to(root)), tuple(path.name for path in gone),
            now.strftime(_TIME),
        )  # fmt: skip
        files = deleted.place / _FILES
        _make(files)
        try:
            record = {k: v for k, v in asdict(deleted).items() if k not in ("id", "root")}
            write_whole(deleted.place / _RECORD, (json.dumps(record) + "\n").encode())
            move_all([(path, files / path.name) for path in gone])
        except BaseException:
            if not any(files.iterdir()):  # what could not be put back stays, with its record
                _forget(deleted.place)
            raise
    return deleted


def restore(what: Deleted | str, roots: Iterable[str | os.PathLike] = ()) -> Entry:
    """Bring what was deleted back to where it was; an id is looked for in the roots' trash.

    Raises `LibraryError`, nothing moved, also where something else is there by now.
    """
    asked = what.id if isinstance(what, Deleted) else what
    found = [own for own in deleted([what.root] if isinstance(what, Deleted) else roots)
             if own.id == asked]  # fmt: skip
    if not found:
        raise LibraryError(f"Nothing with the id {asked!r} is in the trash. List what is there.")
    entry = found[0]
    root = Path(entry.root)
    # What a killed move left at its place is there already.
    moves = [
        (entry.place / _FILES / name, inside([root], root / entry.folder / name))
        for name in entry.names
        if os.path.lexists(entry.place / _FILES / name)
    ]
    for _, new in moves:
        if os.path.lexists(new):
            raise LibraryError(
                f"There is a {printable(str(new))} by now, and it is not replaced. Rename it, then "
                "restore."
            )
    made = _make(moves[-1][1].parent)
    try:
        move_all(moves)
    except BaseException:
        for folder in reversed(made):
            if not any(folder.iterdir()):
                folder.rmdir()
        raise
    _forget(entry.place)
    return read_entry(inside([root], entry.path), root=root)


def deleted(roots: Iterable[str | os.PathLike]) -> list[Deleted]:
    """What is in the trash of some roots, the latest first; damaged records are left out."""
    found = []
    for root in checked_roots(roots):
        trash = root / TRASH
        if trash.is_dir() and not trash.is_symlink():
            found += [own for own in map(_recorded, trash.iterdir()) if own is not None]
    return sorted(found, key=lambda own: (own.date, own.id), reverse=True)


def empty_trash(
    roots: Iterable[str | os.PathLike], *, older_than_days: float = 0
) -> list[Deleted]:  # fmt: skip
    """Delete for good what has been in the trash for so many days; return what that was."""
    if not 0 <= older_than_days <= 10**5:
        raise LibraryError(f"older_than_days is {older_than_days!r}; expected 0 or more.")
    limit = (datetime.now(timezone.utc) - timedelta(days=older_than_days)).strftime(_TIME)
    gone = [own for own in deleted(roots) if own.date <= limit]
    for own in gone:
        shutil.rmtree(inside([own.root], own.place))
    return gone


def _recorded(folder: Path) -> Deleted | None:
    """The deletion in a folder of the trash, if what is said of it can be."""
    data = read_some(folder / _RECORD, _MOST)
    if data is None or folder.is_symlink():
        return None
    root = folder.parent.parent
    try:
        told = read_json(data, str(folder / _RECORD))
        names, texts = told["names"], [told[key] for key in ("name", "path", "folder", "date")]
        plain = isinstance(names, list) and names and all(isinstance(n, str) for n in names)
        if not plain or not all(isinstance(text, str) for text in texts):
            return None
        here = False
        for name in names:
            place = inside([root], root / texts[2] / name)
            gone = os.path.lexists(folder / _FILES / name)
            if Path(name).name != name or not (gone or os.path.lexists(place)):
                return None
            here = here or gone
        if not here:
            return None
        inside([root], texts[1])
    except (LorakitError, LookupError, ValueError):
        return None
    name, path, where, date = texts
    return Deleted(folder.name, str(root), name, path, where, tuple(names), date)


def _make(folder: Path) -> list[Path]:
    """Make a folder and those above it that are missing; return them."""
    missing = [own for own in (folder, *folder.parents) if not own.exists()][::-1]
    made: list[Path] = []
    try:
        for own in missing:
            own.mkdir()
            made.append(own)
    except OSError as error:
        for own in reversed(made):
            own.rmdir()
        raise LibraryError(f"{folder} cannot be made: {error.strerror}.") from error
    return made


def _forget(place: Path) -> None:
    """Take a folder of the trash away, and the trash itself where it is empty then."""
    shutil.rmtree(place, ignore_errors=True)
    if place.parent.is_dir() and not any(place.parent.iterdir()):
        place.parent.rmdir()
