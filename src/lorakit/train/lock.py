"""One process at a time in a run's folder; the system frees it however the process ends."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lorakit.core.errors import TrainingError

FILE = ".lock"


@contextmanager
def owned(folder: Path) -> Iterator[None]:
    """Hold the folder for this process, or raise `TrainingError` if another one trains there."""
    try:
        import fcntl
    except ImportError:  # Windows: an open file cannot be deleted there, which is lock enough
        yield
        return
    descriptor = os.open(folder / FILE, os.O_CREAT | os.O_RDWR)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise TrainingError(
                f"Another process trains in {folder}. Wait for it, or choose another output."
            ) from None
        yield
    finally:
        os.close(descriptor)
