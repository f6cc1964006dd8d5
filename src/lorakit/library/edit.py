"""`edit`: what people say of an adapter, kept in the front matter of its page."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lorakit.core.errors import LibraryError
from lorakit.core.folder import write_whole
from lorakit.library import front
from lorakit.library.beside import PAGE
from lorakit.library.entry import Entry, printable
from lorakit.library.read import read_entry
from lorakit.library.untrusted import LONGEST, LONGEST_TEXT, MOST, text
from lorakit.library.whole import held

MOST_PAGE = 2**22  # bytes of a page that is changed


def edit(
    entry: Entry, *, title: str | None = None, tags: Iterable[str] | None = None,
    triggers: Iterable[str] | None = None, description: str | None = None,
) -> Entry:  # fmt: skip
    """Set what is given, and take out what is given empty; everything else stays as it is.

    In README.md of a folder, or NAME.md beside a file: `model_name`, `tags`, `instance_prompt` and
    `description` of its front matter. Raises `LibraryError`, nothing written.
    """
    asked: dict[str, Any] = {}
    if title is not None:
        asked["model_name"] = _line("title", title, LONGEST) or None
    if tags is not None:
        asked["tags"] = _list("tags", tags) or None
    if triggers is not None:
        asked["instance_prompt"] = ", ".join(_list("triggers", triggers)) or None
    if description is not None:
        asked["description"] = _line("description", description, LONGEST_TEXT) or None
    place = held(entry)
    path, page = read_page(place)
    write_page(path, page.changed(asked))
    return read_entry(place, root=entry.root)


def read_page(place: Path) -> tuple[Path, front.Page]:
    """Where an adapter's own page is or would be, and its parts. Raises `LibraryError`."""
    path = PAGE.of(place)
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise LibraryError(f"{printable(str(path))} is no plain file, and is not written to.")
    try:
        data = path.read_bytes() if path.exists() else b""
        if len(data) > MOST_PAGE:
            raise ValueError(f"it has {len(data)} bytes")
        return path, front.split(data.decode())
    except (OSError, ValueError) as error:
        raise LibraryError(
            f"{printable(str(path))} cannot be read as a page: {error}. Repair or move it."
        ) from error


def write_page(path: Path, page: front.Page) -> None:
    """Write a page, all of it or nothing; one that is as it was is left alone."""
    data = page.text.encode()
    if not path.exists() and not data:
        return
    if not path.exists() or path.read_bytes() != data:
        write_whole(path, data)


def _line(what: str, value: str, longest: int) -> str:
    """The text as it will be shown, or `LibraryError` where that would be another."""
    shown = text(value, longest)
    if not isinstance(value, str) or shown != " ".join(value.split()):
        raise LibraryError(
            f"{what} is {str(value)[:60]!r}; expected one line of at most {longest} letters, all "
            "of which can be printed."
        )
    return shown


def _list(what: str, values: Iterable[str]) -> list[str]:
    if isinstance(values, str):
        raise LibraryError(f"{what} is a text; expected a list of texts.")
    lines = [_line(what, value, LONGEST) for value in values]
    found = [line for line in dict.fromkeys(lines) if line]
    odd = next((line for line in found if "," in line), None)
    if odd is not None:
        raise LibraryError(f"{what}: {odd!r} holds a comma. Give two words.")
    if len(found) > MOST:
        raise LibraryError(f"{what}: {len(found)} words were given; at most {MOST} are kept.")
    return found
