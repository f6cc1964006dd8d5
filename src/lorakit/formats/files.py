"""An adapter's files, read together from one folder, and folders that may be replaced by one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lorakit.core.errors import AdapterFileError
from lorakit.formats.manifest import MANIFEST
from lorakit.formats.peft_config import CONFIG

TENSORS = "adapter_model.safetensors"
PICKLE = "adapter_model.bin"
OURS = (CONFIG, TENSORS, MANIFEST)
# What others put beside an adapter; it is kept when the adapter is replaced.
_BESIDE = (".md", ".json", ".jinja", ".txt", ".model", ".png", ".yaml", ".gitattributes")
_TRIES = 5


def read_folder(folder: str | os.PathLike) -> tuple[dict[str, bytes], str]:
    """The known files of an adapter's folder, all of one save, and the folder's name for messages.

    A folder that is replaced while it is read is read again.
    """
    path = Path(folder).expanduser()
    if not path.exists():
        raise AdapterFileError(f"{path} is not there. Check the path of the adapter's folder.")
    if not path.is_dir():
        raise AdapterFileError(
            f"{path} is a file; expected the folder that holds {CONFIG} and {TENSORS}."
        )
    for _ in range(_TRIES):
        try:
            with _held(path) as inode:
                files = {n: (path / n).read_bytes() for n in OURS if (path / n).is_file()}
                if path.stat().st_ino == inode:
                    break
        except FileNotFoundError:
            continue
        except OSError as error:
            raise AdapterFileError(f"{path} cannot be read: {error}.") from error
    else:
        raise AdapterFileError(f"{path} changes while it is read. Try again when it is quiet.")
    if (path / PICKLE).is_file():
        files[PICKLE] = b""  # told apart by name alone: its content is never touched
    return files, str(path)


@contextmanager
def _held(folder: Path) -> Iterator[int]:
    """The inode of an open folder: not given to another one meanwhile, should this one go."""
    if os.name == "nt":  # opens no folders, and does not use their numbers again so soon
        yield folder.stat().st_ino
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        yield os.fstat(descriptor).st_ino
    finally:
        os.close(descriptor)


def keeps_from(folder: Path) -> list[Path]:
    """The files beside an adapter that a new save of it carries over."""
    own = {*OURS, PICKLE, *_listed(folder)}
    return [path for path in folder.iterdir() if path.name not in own and path.is_file()]


def _listed(folder: Path) -> set[str]:
    """The files of an adapter in another format, as the manifest beside them lists them."""
    try:
        content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return {name for name in content["files"] if isinstance(name, str)}
    except (OSError, ValueError, LookupError, TypeError):
        return set()


def why_not_replace(folder: Path) -> str | None:
    """Why a folder with content must not be replaced by an adapter, or None if it is one."""
    names = sorted(path.name for path in folder.iterdir())
    listed = _listed(folder)
    if CONFIG not in names and not (listed and listed <= set(names)):
        return f"it holds {names[0]!r} and is no adapter"
    for path in folder.iterdir():
        own = path.name in (*OURS, PICKLE, *listed)
        known = own or path.name.endswith(_BESIDE)
        if not path.is_file() or not known:
            return f"it holds {path.name!r} beside an adapter"
    return None
