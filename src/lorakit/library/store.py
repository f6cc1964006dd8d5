"""The index's database: a cache of what folders say, made again whenever it is not as it must be.

Two connections, one to read and one to write, each used by one thread at a time; other processes
write in turn (SQLite's write-ahead log).
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from lorakit.core.errors import LibraryError
from lorakit.library.words import TOKENIZER

FILE = "library.sqlite"
SCHEMA = 1  # another number makes indices anew
_APPLICATION = 0x6C6F7261  # "lora"
_WAIT = 30.0  # seconds for another process that writes
_TABLES = f"""
CREATE TABLE places (
    path BLOB PRIMARY KEY, root BLOB NOT NULL, signature TEXT NOT NULL, number INTEGER
) WITHOUT ROWID;
CREATE TABLE entries (
    number INTEGER PRIMARY KEY, id TEXT UNIQUE NOT NULL, name TEXT, base TEXT, task TEXT,
    method TEXT, format TEXT, rank INTEGER, bytes INTEGER, date TEXT, stored TEXT NOT NULL
);
CREATE TABLE tags (tag TEXT NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (tag, number))
    WITHOUT ROWID;
CREATE INDEX tags_of ON tags (number);
CREATE VIRTUAL TABLE texts USING fts5 (words, tokenize="{TOKENIZER}");
PRAGMA application_id = {_APPLICATION};
PRAGMA user_version = {SCHEMA};
"""
Result = TypeVar("Result")


class Store:
    """The database in a folder of its own. `renewed` counts how often it had to be made again."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self.renewed = 0
        self._reading, self._writing = threading.RLock(), threading.RLock()
        self._reader: sqlite3.Connection | None = None
        self._writer: sqlite3.Connection | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unusable(error) from error

    def read(self, query: Callable[[sqlite3.Connection], Result]) -> Result:
        """What a query gives; a damaged database is made again, empty, and asked once more."""
        return self._tried(lambda: self._read(query))

    def write(self, change: Callable[[sqlite3.Connection], Result]) -> Result:
        """What a change gives; all of it is done, or nothing."""
        return self._tried(lambda: self._write(change))

    def close(self) -> None:
        """Let the file go."""
        with self._writing, self._reading:
            for connection in (self._reader, self._writer):
                if connection is not None:
                    connection.close()
            self._reader = self._writer = None

    def _read(self, query: Callable[[sqlite3.Connection], Result]) -> Result:
        with self._reading:
            if self._reader is None:
                self._reader = self._opened()
            return query(self._reader)

    def _write(self, change: Callable[[sqlite3.Connection], Result]) -> Result:
        with self._writing:
            if self._writer is None:
                self._writer = self._opened()
            with _transaction(self._writer):
                return change(self._writer)

    def _tried(self, act: Callable[[], Result]) -> Result:
        made = self.renewed
        try:
            return act()
        except sqlite3.DatabaseError as error:
            # Busy, full or forbidden is no damage, which alone is mended by a new index.
            if isinstance(error, sqlite3.OperationalError) and not _is_damage(error):
                raise self._unusable(error) from error
        self._renew(made)
        try:
            return act()
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def _opened(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=_WAIT, check_same_thread=False, isolation_level=None
        )
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = OFF")  # a cache: what is lost is read again
            if _number(connection, "user_version") != SCHEMA:
                _make_tables(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _renew(self, made: int) -> None:
        with self._writing, self._reading:
            if self.renewed != made:  # by another thread, which met the same damage
                return
            self.close()
            for end in ("", "-wal", "-shm"):
                self.path.with_name(self.path.name + end).unlink(missing_ok=True)
            self.renewed += 1

    def _unusable(self, error: Exception) -> LibraryError:
        return LibraryError(
            f"The index {self.path} cannot be used: {error}. Delete it, or pass another folder for "
            "it (XDG_CACHE_HOME has the usual ones)."
        )


def _make_tables(connection: sqlite3.Connection) -> None:
    with _transaction(connection):
        if _number(connection, "user_version") == SCHEMA:  # another process was first
            return
        if _number(connection, "schema_version"):
            raise sqlite3.DatabaseError("tables of another version")
        for statement in _TABLES.split(";\n"):
            connection.execute(statement)


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _number(connection: sqlite3.Connection, pragma: str) -> int:
    return connection.execute(f"PRAGMA {pragma}").fetchone()[0]


def _is_damage(error: sqlite3.OperationalError) -> bool:
    """Whether tables are missing or of another shape: not a full disk, nor another's lock."""
    code = getattr(error, "sqlite_errorcode", None)  # since Python 3.11
    return code == 1 or (code is None and str(error).startswith("no such "))
