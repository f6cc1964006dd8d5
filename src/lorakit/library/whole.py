"""What belongs to one adapter and goes with it: its folder, or its file with its sidecars."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from lorakit.core.errors import LibraryError, TrainingError
from lorakit.library.beside import run_of, sidecars
from lorakit.library.entry import Entry, printable
from lorakit.library.roots import inside


def held(entry: Entry) -> Path:
    """The entry's place, which is there and below its root. Raises `LibraryError`."""
    place = inside([entry.root], entry.path)
    if not place.exists():
        raise LibraryError(
            f"{printable(entry.path)} is not there any more. Refresh the library and look again."
        )
    return place


def own_run(entry: Entry, place: Path) -> Path | None:
    """The run that the adapter is in, where it is below the root as well."""
    run = run_of(place)
    return run if run is not None and Path(entry.root) in run.parents else None


def belongings(place: Path) -> list[Path]:
    """What goes where an adapter goes: its folder, or its file behind what is named after it."""
    return [place] if place.is_dir() else [*sidecars(place), place]


@contextmanager
def at_rest(run: Path | None) -> Iterator[None]:
    """While this lasts nobody trains in the run. Raises `LibraryError` if somebody does."""
    from lorakit.train.folder import LOCK
    from lorakit.train.lock import owned

    locked = run is not None and (run / LOCK).is_file()  # no lock is made where there was none
    try:
        with owned(run) if run is not None and locked else nullcontext():
            yield
    except TrainingError as error:
        raise LibraryError(f"{error} A run that is trained is not moved.") from error
