"""What may lie beside an adapter and belongs to it: its page, pictures, source, and its run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

PICTURES = (".png", ".jpg", ".jpeg", ".webp")
_RUN = ("recipe.yaml", "run.json")  # a run's folder has one of these


class Sidecar:
    """A small file: of this name in an adapter's folder, or behind a single file's name."""

    def __init__(self, name: str, ending: str) -> None:
        self.name, self.ending = name, ending

    def of(self, place: Path) -> Path:
        """Where that of an adapter is, or would be."""
        return place / self.name if place.is_dir() else place.with_name(place.stem + self.ending)


PAGE = Sidecar("README.md", ".md")
SOURCE = Sidecar("source.json", ".source.json")
# What goes where a single file goes.
ENDINGS = (PAGE.ending, SOURCE.ending, *PICTURES, *(f".preview{end}" for end in PICTURES))


def page_of(place: Path) -> Path | None:
    """An adapter's Markdown page; a file without one has its folder's, if it is alone there."""
    own = PAGE.of(place)
    if own.is_file():
        return own
    if place.is_file() and (place.parent / PAGE.name).is_file():
        alike = [path for path in place.parent.iterdir() if path.suffix == place.suffix]
        return place.parent / PAGE.name if len(alike) == 1 else None
    return None


def previews(place: Path) -> Iterator[Path]:
    """The pictures of an adapter, the one to show first."""
    if place.is_dir():
        candidates = [place / f"preview{end}" for end in PICTURES]
    else:
        candidates = [place.with_name(f"{place.stem}.preview{end}") for end in PICTURES]
        candidates += [place.with_name(f"{place.stem}{end}") for end in PICTURES]
    for path in candidates:
        if path.is_file() and not path.is_symlink():
            yield path


def sidecars(place: Path) -> list[Path]:
    """All files that belong to a single file and are called after it."""
    found = [place.with_name(place.stem + end) for end in ENDINGS]
    return [path for path in found if path.is_file()]


def run_of(place: Path) -> Path | None:
    """The folder of the run that an adapter lies in, as training leaves it."""
    above = place.parent
    if place.name != "adapter" or not place.is_dir():
        return None
    return above if any((above / name).is_file() for name in _RUN) else None
