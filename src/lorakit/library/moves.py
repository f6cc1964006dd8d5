"""Moving folders and files: never onto something, and all of them or none."""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from lorakit.core.errors import LibraryError
from lorakit.core.folder import STALE_AFTER, sync

_STAGE = ".lorakit-stage-"


@contextmanager
def staged(root: Path) -> Iterator[Path]:
    """A hidden folder below the root to make things ready in; it is gone at the end."""
    for left in root.glob(f"{_STAGE}*"):  # of processes that were killed
        with suppress(FileNotFoundError):
            if time.time() - left.stat().st_mtime > STALE_AFTER:
                shutil.rmtree(left, ignore_errors=True)
    stage = root / f"{_STAGE}{secrets.token_hex(6)}"
    try:
        stage.mkdir(mode=0o700)
    except OSError as error:
        raise LibraryError(f"{root} cannot be written: {error.strerror}.") from error
    try:
        yield stage
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def move_all(moves: Sequence[tuple[Path, Path]]) -> None:
    """Move each first path to its second, in this order. Raises `LibraryError`, nothing moved."""
    done: list[tuple[Path, Path]] = []
    try:
        for old, new in moves:
            _move(old, new)
            done.append((old, new))
    except BaseException as error:
        for old, new in reversed(done):
            os.rename(new, old)
        if not isinstance(error, OSError):
            raise
        old, new = moves[len(done)]
        raise LibraryError(
            f"{old} cannot be moved to {new}: {error.strerror or error}. Nothing was changed."
        ) from error
    for folder in {path.parent for pair in moves for path in pair if path.parent.is_dir()}:
        sync(folder)


def _move(old: Path, new: Path) -> None:
    same = os.path.lexists(new) and os.path.samestat(old.lstat(), new.lstat())
    if os.path.lexists(new) and not same:  # where only case differs it may be itself
        raise FileExistsError(17, "something is there already")
    if same or old.is_symlink() or old.is_dir():
        os.rename(old, new)
        return
    try:
        os.link(old, new)  # unlike a rename it never replaces a file that has come meanwhile
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        os.rename(old, new)
        return
    os.unlink(old)
