"""`Library`: what is below some folders, kept in an index that is only ever a copy of them."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from lorakit.core.errors import LibraryError, did_you_mean
from lorakit.library.entry import Entry, restored
from lorakit.library.question import FACETS, Order, counted, question
from lorakit.library.roots import checked_roots
from lorakit.library.store import Store
from lorakit.library.walk import Place, Walk
from lorakit.library.words import words

_BATCH = 200  # entries that are written at a time
Result = TypeVar("Result")
Found = tuple[Place, Entry | None]


@dataclass(frozen=True)
class Refreshed:
    """What a refresh found: how many adapters are new, read again, gone, and there in all.

    `whole` is False where folders lie too deep, or are too many, to be all looked through.
    """

    added: int
    changed: int
    removed: int
    total: int
    whole: bool = True


class Library:
    """All adapters below the roots; of use to several threads, and beside other processes.

    `index` is the folder of the index; without it, one in the user's cache. It may be deleted at
    any time. Raises `LibraryError` where a root is no folder, or the index cannot be written.
    """

    def __init__(
        self, roots: str | os.PathLike | Iterable[str | os.PathLike], *,
        index: str | os.PathLike | None = None,
    ) -> None:  # fmt: skip
        single = isinstance(roots, (str, os.PathLike))
        self.roots = checked_roots([roots] if single else roots)  # type: ignore[list-item]
        self._store = Store(_cache(self.roots) if index is None else Path(index).expanduser())
        self._refreshing = threading.Lock()
        self._filled = -1  # which making of the index holds what was found

    def __enter__(self) -> Library:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the index go; it opens again when it is asked."""
        self._store.close()

    def refresh(self) -> Refreshed:
        """Bring the index up to the folders; only what changed is read."""
        with self._refreshing:
            made = self._store.renewed
            places, whole = self._walked()
            known = self._store.read(_known)
            changed = [
                place for path, place in places.items()
                if path not in known or known[path][0] != place.signature
            ]  # fmt: skip
            gone = [path for path in known if path not in places]
            before = {path for path, (_, number) in known.items() if number is not None}
            lost = before.intersection(gone)
            added = again = 0
            for start in range(0, len(changed), _BATCH):
                found = [(place, _looked(place)) for place in changed[start : start + _BATCH]]
                self._store.write(lambda db, found=found: _put_all(db, found))
                for place, entry in found:
                    was = os.fsencode(place.path) in before
                    again += was and entry is not None
                    added += entry is not None and not was
                    lost |= {os.fsencode(place.path)} if was and entry is None else set()
            if gone:
                self._store.write(lambda db: [_drop(db, path) for path in gone])
            if self._store.renewed == made:
                self._filled = made
            return Refreshed(added, again, len(lost), len(before) - len(lost) + added, whole)

    def search(
        self, text: str = "", *, base: str | None = None, task: str | None = None,
        method: str | None = None, format: str | None = None, tags: Iterable[str] = (),
        order: Order = "newest", limit: int | None = None, offset: int = 0,
    ) -> list[Entry]:  # fmt: skip
        """The adapters with all words of `text`, each as a beginning, that pass the filters.

        Looks into the index alone: see `refresh`. No text is special. `tags` must all be there.
        Raises `LibraryError` for an unknown order.
        """
        filters = {"base": base, "task": task, "method": method, "format": format}
        asked = question(text, filters, tags, order=order, limit=limit, offset=offset)
        rows = self._asked(lambda db: db.execute(*asked).fetchall())
        return [_entry(stored) for (stored,) in rows]

    def facets(self) -> dict[str, dict[str, int]]:
        """How many adapters there are by base, task, method, format and tag, the most first."""
        return self._asked(lambda db: {name: counted(db, name) for name in FACETS})

    def find(self, id: str) -> Entry:
        """The entry of this id. Raises `LibraryError` where there is none."""
        wanted = id.encode("utf-8", "replace").decode()
        asked = "SELECT stored FROM entries WHERE id = ?"
        row = self._asked(lambda db: db.execute(asked, (wanted,)).fetchone())
        if row is None:
            raise LibraryError(
                f"There is no adapter {id[:100]!r} here. It may have been moved: refresh."
            )
        return _entry(row[0])

    def pick(self, word: str) -> Entry:
        """The one adapter that a person means: by id or its beginning, name, title or path."""
        everything = self.search(order="name")
        path = os.path.realpath(os.path.expanduser(word)) if "\0" not in word else ""
        wishes: tuple[Callable[[Entry], bool], ...] = (
            lambda own: word in (own.id, own.name),
            lambda own: path in (os.path.realpath(own.path), own.run),
            lambda own: word.casefold() in (own.name.casefold(), own.title.casefold()),
            lambda own: len(word) >= 4 and own.id.startswith(word),
        )
        for wish in wishes:
            hits = [entry for entry in everything if wish(entry)]
            if len(hits) > 1:
                shown = ", ".join(f"{own.id} ({own.path})" for own in hits[:4])
                raise LibraryError(f"{word!r} may be {len(hits)} adapters: {shown}. Give an id.")
            if hits:
                return hits[0]
        hint = did_you_mean(word, [entry.name for entry in everything])
        raise LibraryError(f"There is no adapter {word!r} below the roots.{hint or ' List them.'}")

    def _asked(self, query: Callable[[sqlite3.Connection], Result]) -> Result:
        """The answer of an index that holds what was found, which a damaged one has to anew."""
        answer = self._store.read(query)
        if self._filled in (-1, self._store.renewed):
            return answer
        self.refresh()
        return self._store.read(query)

    def _walked(self) -> tuple[dict[bytes, Place], bool]:
        places: dict[bytes, Place] = {}
        whole = True
        for root in self.roots:
            walk = Walk(root)
            for place in walk.places():
                places.setdefault(os.fsencode(place.path), place)
            whole &= walk.whole
        return places, whole


def _cache(roots: Iterable[Path]) -> Path:
    """The folder for the index of these roots in the user's cache."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    above = Path(home) if os.path.isabs(home) else Path.home() / ".cache"
    whole = hashlib.sha256(b"\0".join(sorted(os.fsencode(root) for root in roots)))
    return above / "lorakit" / "library" / whole.hexdigest()[:16]


def _looked(place: Place) -> Entry | None:
    from lorakit.library.read import look  # with torch, which an index that is fresh does without

    try:
        entry = look(Path(place.path), Path(place.root))
    except OSError:  # it went while it was read
        return None
    return None if entry is not None and entry.problem and place.in_model else entry


def _known(connection: sqlite3.Connection) -> dict[bytes, tuple[str, int | None]]:
    rows = connection.execute("SELECT path, signature, number FROM places")
    return {path: (signature, number) for path, signature, number in rows}


def _put_all(connection: sqlite3.Connection, found: Iterable[Found]) -> None:
    for place, entry in found:
        path = os.fsencode(place.path)
        _drop(connection, path)
        number = None if entry is None else _put(connection, entry)
        connection.execute(
            "INSERT INTO places VALUES (?, ?, ?, ?)",
            (path, os.fsencode(place.root), place.signature, number),
        )


def _put(connection: sqlite3.Connection, entry: Entry) -> int | None:
    values = (
        entry.id, entry.shown.casefold(), entry.base, entry.task, entry.method, entry.format,
        max(entry.ranks, default=0), min(entry.bytes, 2**62), entry.date,
        json.dumps(entry.stored()),
    )  # fmt: skip
    number = connection.execute(
        "INSERT INTO entries (id, name, base, task, method, format, rank, bytes, date, stored) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values
    ).lastrowid  # fmt: skip
    connection.executemany("INSERT INTO tags VALUES (?, ?)", [(tag, number) for tag in entry.tags])
    said = " ".join(
        [entry.shown, entry.as_dict()["name"], entry.base, entry.task, entry.method, entry.format,
         entry.description, entry.source, *entry.tags, *entry.triggers]
    )  # fmt: skip
    text = " ".join(words(said))
    connection.execute("INSERT INTO texts (rowid, words) VALUES (?, ?)", (number, text))
    return number


def _drop(connection: sqlite3.Connection, path: bytes) -> None:
    row = connection.execute("SELECT number FROM places WHERE path = ?", (path,)).fetchone()
    if row is None:
        return
    connection.execute("DELETE FROM places WHERE path = ?", (path,))
    for table, column in (("entries", "number"), ("tags", "number"), ("texts", "rowid")):
        connection.execute(f"DELETE FROM {table} WHERE {column} = ?", row)


def _entry(stored: str) -> Entry:
    return restored(json.loads(stored))
