"""Processes that live on by themselves: how they are begun, and how they are asked to end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from lorakit.core.errors import QueueError
from lorakit.jobs.lock import holder, sign

TRAIN = (sys.executable, "-m", "lorakit", "train")
WORKER = (sys.executable, "-m", "lorakit.jobs")


def begin_worker(folder: Path, lock: int) -> None:
    """Begin a worker that outlives this process, and give it the lock, an open file.

    What is begun here leaves at once, and its child goes on: so the worker is no child of ours,
    which we would have to wait for.
    """
    with (folder / "worker.log").open("ab") as log:
        done = subprocess.run(
            [*WORKER, str(folder), str(lock)], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            pass_fds=(lock,), start_new_session=True, env=environment(), check=False,
        )  # fmt: skip
    if done.returncode:
        raise QueueError(
            f"The worker could not be begun (exit code {done.returncode}). {folder / 'worker.log'} "
            "says why."
        )


def begin(
    command: Sequence[str], *, folder: str, printed: Path, lock: int
) -> subprocess.Popen[bytes]:
    """Begin a training in a folder, in a session of its own, that holds the lock until it ends."""
    with printed.open("ab") as out:
        return subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            pass_fds=(lock,), start_new_session=True, env=environment(),
            # The process itself writes who it is, so that it is known if the worker dies now. Only
            # the worker comes here, which has no other threads that such a call could disturb.
            preexec_fn=partial(sign, lock),
        )  # fmt: skip


def environment() -> dict[str, str]:
    """Our environment for a process that begins in another folder, with this same package."""
    found = dict(os.environ)
    if found.get("PYTHONPATH"):
        parts = found["PYTHONPATH"].split(os.pathsep)
        found["PYTHONPATH"] = os.pathsep.join(os.path.abspath(part) for part in parts if part)
    # Else `python -m` would import what lies in that folder under the name of a library.
    found["PYTHONSAFEPATH"] = "1"
    return found


def interrupt(lock: Path) -> bool:
    """Press Ctrl-C for the process that holds the lock; whether there was one."""
    return _told(lock, os.kill, signal.SIGINT)


def kill(lock: Path) -> bool:
    """End the process that holds the lock, and those that it began; whether there was one."""
    # A training is the first of its session, and of its group.
    return _told(lock, os.killpg, signal.SIGKILL)


def terminate(lock: Path) -> bool:
    """Ask the worker that holds the lock to stop; whether there was one."""
    return _told(lock, os.kill, signal.SIGTERM)


def _told(lock: Path, send: Callable[[int, int], None], number: int) -> bool:
    found = holder(lock)
    if found is None or not found.lives():
        return False
    send(found.pid, number)
    return True
