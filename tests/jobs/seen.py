"""Waiting for what processes do, and ending those that are left."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from lorakit.jobs.lock import held, holder
from lorakit.jobs.queue import Queue


def until(said, seconds: float = 60.0):
    """Wait until `said` returns something, and return that."""
    end = time.monotonic() + seconds
    while not (found := said()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)
    return found


def in_state(queue: Queue, id: str, *states: str, seconds: float = 60.0):
    """The job when it is in one of these states."""

    def look():
        job = queue.job(id)
        return job if job.state in states else None

    return until(look, seconds)


def end_all(folder: Path) -> None:
    """Kill whoever holds a lock of the queue, the worker first."""
    for lock in [folder / "worker.lock", *sorted(folder.glob("*-*.lock"))]:
        while held(lock):
            if (found := holder(lock)) is not None:
                with suppress(ProcessLookupError):
                    os.kill(found.pid, signal.SIGKILL)
            time.sleep(0.01)
