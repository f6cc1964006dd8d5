"""Locks on files that a process holds while it lives: the system frees them however it ends.

A lock belongs to the open file and not to the process (flock(2)): one that is handed to a child is
held until the child is gone, whatever becomes of who took it. So a held lock is the fact that a
worker or a training lives, and needs no process number that could be another's by now.
"""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lorakit.core.errors import UnsupportedError


@dataclass(frozen=True)
class Holder:
    """The process that a lock was handed to: its number, and when the system began it."""

    pid: int
    born: str

    def lives(self) -> bool:
        """Whether the number is still this process's, and not that of a later one."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return False  # ours are ours to signal
        return born(self.pid) == self.born


def require_locks() -> None:
    """Raise `UnsupportedError` where the system has no such locks."""
    if importlib.util.find_spec("fcntl") is None:
        raise UnsupportedError(
            "The queue needs file locks that outlive a process, which this system has not. Train "
            "with lorakit train, or use the queue in WSL, Linux or macOS."
        )


@contextmanager
def alone(file: Path) -> Iterator[None]:
    """Wait for the lock and hold it within the block."""
    descriptor = os.open(file, os.O_CREAT | os.O_RDWR, 0o644)
    try:
        _wait(descriptor)
        yield
    finally:
        os.close(descriptor)


def take(file: Path) -> int | None:
    """The open file that holds the lock, or None where another has it.

    Only one process at a time may ask this, which `alone` sees to. Then whoever else has the lock
    either keeps it for as long as it lives, or only looks and is gone in microseconds.
    """
    if held(file):
        return None
    descriptor = os.open(file, os.O_CREAT | os.O_RDWR, 0o644)
    _wait(descriptor)
    os.ftruncate(descriptor, 0)  # what an earlier holder wrote of itself
    return descriptor


def held(file: Path) -> bool:
    """Whether a process holds the lock."""
    import fcntl

    try:
        descriptor = os.open(file, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)


def sign(descriptor: int, pid: int | None = None) -> None:
    """Write into the lock who holds it: this process, or a child of it."""
    pid = os.getpid() if pid is None else pid
    os.pwrite(descriptor, f"{pid} {born(pid)}".encode(), 0)


def holder(file: Path) -> Holder | None:
    """Who holds the lock; None where no one does, or has not said who it is."""
    if not held(file):
        return None
    pid, _, when = file.read_text(encoding="ascii", errors="replace").partition(" ")
    # A number below 2 would be everyone's: kill(2) gives 0 and 1 a meaning of their own.
    return Holder(int(pid), when) if re.fullmatch(r"[1-9]\d{0,8}", pid) and pid != "1" else None


def born(pid: int) -> str:
    """When a process began, in the kernel's own ticks; "" where the system does not tell.

    Ticks count from the start of the machine, so that a clock that is set changes nothing.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
    return text.rpartition(")")[2].split()[19]  # field 22 of proc_pid_stat(5)


def _wait(descriptor: int) -> None:
    import fcntl

    fcntl.flock(descriptor, fcntl.LOCK_EX)
