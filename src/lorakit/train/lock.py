"""One process at a time in a run's folder; the system frees it however the process ends."""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lorakit.core.errors import TrainingError
from lorakit.train.folder import LOCK

TRIES = 10  # 20 ms apart: whoever only looks whether a folder is held has it for microseconds


@contextmanager
def owned(folder: Path) -> Iterator[None]:
    """Hold the folder for this process, or raise `TrainingError` if another one trains there."""
    if importlib.util.find_spec("fcntl") is None:
        yield  # Windows: an open file cannot be deleted there, which is lock enough
        return
    descriptor = os.open(folder / LOCK, os.O_CREAT | os.O_RDWR)
    try:
        if not _taken(descriptor):
            raise TrainingError(
                f"Another process trains in {folder}. Wait for it, or choose another output."
            )
        yield
    finally:
        os.close(descriptor)


def _taken(descriptor: int) -> bool:
    import fcntl

    for _ in range(TRIES):
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(0.02)
    return False
