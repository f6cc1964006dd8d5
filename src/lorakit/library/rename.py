"""`rename`: another name for an adapter's folder or file."""

from __future__ import annotations

from pathlib import Path

from lorakit.core.errors import LibraryError
from lorakit.library.beside import run_of
from lorakit.library.entry import Entry, printable
from lorakit.library.moves import move_all
from lorakit.library.names import check_file_name, check_free
from lorakit.library.read import read_entry
from lorakit.library.whole import at_rest, belongings, held, own_run


def rename(entry: Entry, name: str) -> Entry:
    """Call the adapter's folder or file, or the run that it is in, by another name.

    A page, picture or source that is called after a file goes with it. Raises `AdapterNameError`
    for a name that is not usable or is taken, `LibraryError` where the run is trained; nothing is
    changed then.
    """
    label = check_file_name(name)
    place = held(entry)
    run = own_run(entry, place)
    if run is None and run_of(place) is not None:
        raise LibraryError(
            f"{printable(str(place))} is the adapter of the run that the library begins at. Name "
            "the folder above the run as a root to rename the run."
        )
    if run is not None:
        with at_rest(run):
            _free(run, run.parent / label)
            move_all([(run, run.parent / label)])
        return read_entry(run.parent / label / place.name, root=entry.root)
    moves = [(old, _called(old, place, label)) for old in belongings(place)]
    for old, new in moves:
        _free(old, new)
    move_all(moves)
    return read_entry(moves[-1][1], root=entry.root)  # the place itself is moved last


def _called(old: Path, place: Path, label: str) -> Path:
    end = "" if place.is_dir() else old.name.removeprefix(place.stem)
    return old.with_name(label + end)


def _free(old: Path, new: Path) -> None:
    """Raise `AdapterNameError` if another thing has the name."""
    itself = new.exists() and old.samefile(new)  # where only case differs
    if not itself:
        check_free(new.parent, new.name)
