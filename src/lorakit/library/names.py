"""Names of folders and files that a library makes: good on every system, and free."""

from __future__ import annotations

from pathlib import Path

from lorakit.core.errors import AdapterNameError
from lorakit.core.names import LONGEST_NAME, check_name
from lorakit.library.walk import PASSED

_MOST_BYTES = 200  # file systems take 255, and ends such as .preview.webp come behind
_NO_FILE = '<>:"|?*'
_DEVICES = {"con", "prn", "aux", "nul", *(f"{d}{n}" for d in ("com", "lpt") for n in range(10))}
# Of a run, or passed over by every search: what is called so would not be found.
_OURS = {"adapter", *(name.lower() for name in PASSED)}


def check_file_name(name: object) -> str:
    """The name in Unicode normal form C, or `AdapterNameError` with what is wrong with it."""
    label = check_name(name)
    problem = _problem(label)
    if problem:
        raise AdapterNameError(
            f"{label!r} cannot name a folder or file: {problem}. Use letters, digits, spaces, '-', "
            "'_' or '.'."
        )
    return label


def usable(name: str) -> str:
    """A name that is allowed and as near to the given one as can be."""
    kept = "".join(c if c.isprintable() and c not in f"/\\{_NO_FILE}" else "-" for c in name)
    kept = kept.strip(" .-")[: LONGEST_NAME - 10].strip(" .-")
    while len(kept.encode("utf-8", "replace")) > _MOST_BYTES - 10:
        kept = kept[:-1]
    try:
        return check_file_name(kept)
    except AdapterNameError:
        return check_file_name(f"an-{kept}" if kept else "an-adapter")


def check_free(folder: Path, name: str, endings: tuple[str, ...] = ("",)) -> None:
    """Raise `AdapterNameError`, with a name that is free, if something is called so already."""
    if not _taken(folder, name, endings):
        return
    raise AdapterNameError(
        f"There is a {name!r} already, and it is not replaced. "
        f"{free_name(folder, name, endings)!r} is free."
    )


def free_name(folder: Path, name: str, endings: tuple[str, ...] = ("",)) -> str:
    """The name itself, or it with the first number that makes it a new one."""
    number, free = 2, name
    while _taken(folder, free, endings):
        free, number = f"{name[: LONGEST_NAME - 8]}-{number}", number + 1
    return free


def _taken(folder: Path, name: str, endings: tuple[str, ...]) -> bool:
    # lexists: a link that leads nowhere takes its name as well.
    places = [folder / f"{name}{end}" for end in endings]
    return any(place.exists() or place.is_symlink() for place in places)


def _problem(label: str) -> str | None:
    if label.startswith("."):
        return "it would be hidden"
    if label.startswith("-"):
        return "commands would read it as an option"
    if label.endswith("."):
        return "it ends with a dot"
    odd = next((char for char in label if char in _NO_FILE), None)
    if odd is not None:
        return f"it holds {odd!r}"
    stem = label.partition(".")[0].rstrip().casefold()
    if stem in _DEVICES or label.casefold() in _OURS:
        return "this name is reserved"
    if len(label.encode()) > _MOST_BYTES:
        return f"it takes {len(label.encode())} bytes"
    return None
