"""Folders that appear whole or not at all: written beside, flushed to disk, then renamed."""

from __future__ import annotations

import ctypes
import os
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lorakit.core.errors import SaveError

STALE_AFTER = 3600  # seconds: a partial folder this old was left by a process that died


@contextmanager
def whole_folder(
    target: str | os.PathLike, replaces: Callable[[Path], str | None]
) -> Iterator[Path]:
    """Give an empty folder to fill; when the block ends well it stands at `target`, all of it.

    `replaces` looks at a folder that already is at `target` and says why it must not be replaced,
    or None. Whatever goes wrong leaves `target` and its parent as they were. Raises `SaveError`.
    """
    final = Path(target).expanduser().resolve()
    _check_target(final, replaces)
    made = _make_parents(final)
    partial = final.parent / f".{final.name}.partial-{secrets.token_hex(4)}"
    try:
        _drop_stale(final)
        partial.mkdir()
        yield partial
        sync_tree(partial)
        _check_target(final, replaces)
        _put(partial, final)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        for folder in made:
            with suppress(OSError):  # another process has put something there since
                folder.rmdir()
        if isinstance(error, OSError):
            raise SaveError(_cannot_write(final, error)) from error
        raise


def sync_tree(folder: Path) -> None:
    """Flush every file and folder in `folder`, and itself, to the disk."""
    for path in [*folder.rglob("*"), folder]:
        sync(path)


def sync(path: Path) -> None:
    """Flush one file or folder to the disk."""
    # Windows cannot open a folder; there the rename itself is what is durable.
    if path.is_dir() and os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(path: Path, content: bytes) -> None:
    """Write one file so that a reader sees the old content or the new, never a part."""
    partial = path.parent / f".{path.name}.partial-{secrets.token_hex(4)}"
    try:
        partial.write_bytes(content)
        sync(partial)
        os.replace(partial, path)
        sync(path.parent)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise SaveError(_cannot_write(path, error)) from error


def _check_target(final: Path, replaces: Callable[[Path], str | None]) -> None:
    if final.is_dir():
        why = replaces(final) if any(final.iterdir()) else None
        if why is not None:
            raise SaveError(f"{final} is not replaced: {why}. Choose a new or an empty folder.")
    elif final.exists():
        raise SaveError(f"{final} is a file; expected a folder to write. Choose another place.")


def _make_parents(final: Path) -> list[Path]:
    missing = [parent for parent in final.parents if not parent.exists()]
    made: list[Path] = []
    try:
        for parent in reversed(missing):
            parent.mkdir()
            made.insert(0, parent)
    except OSError as error:
        for folder in made:
            folder.rmdir()
        raise SaveError(_cannot_write(final, error)) from error
    return made


def _cannot_write(path: Path, error: OSError) -> str:
    return (
        f"{path} cannot be written: {error.strerror or error}. Choose another place, or make room."
    )


def _drop_stale(final: Path) -> None:
    for left in final.parent.glob(f".{final.name}.partial-*"):
        if time.time() - left.stat().st_mtime > STALE_AFTER:
            shutil.rmtree(left, ignore_errors=True)


def _put(partial: Path, final: Path) -> None:
    """Rename `partial` to `final`; a folder that is there is exchanged in one step."""
    if not final.exists():
        os.rename(partial, final)
    elif _exchange(partial, final):
        shutil.rmtree(partial)
    else:
        # No exchange on this system: there is a moment without `final`, but never half of one.
        aside = partial.with_name(partial.name + "-old")
        os.rename(final, aside)
        try:
            os.rename(partial, final)
        except OSError:
            os.rename(aside, final)
            raise
        shutil.rmtree(aside)
    sync(final.parent)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two paths in one step (renameat2 on Linux, renamex_np on macOS), or say False."""
    library = ctypes.CDLL(None, use_errno=True) if os.name == "posix" else None
    names = os.fsencode(one), os.fsencode(other)
    if sys.platform == "linux" and hasattr(library, "renameat2"):
        here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
        call = library.renameat2  # type: ignore[union-attr]
        return call(here, names[0], here, names[1], exchange) == 0
    if sys.platform == "darwin" and hasattr(library, "renamex_np"):
        return library.renamex_np(*names, 2) == 0  # type: ignore[union-attr] # RENAME_SWAP
    return False
