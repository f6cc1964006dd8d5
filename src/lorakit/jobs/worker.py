"""The worker: takes what waits, watches what runs, and goes when nothing is left.

All it knows is in the files. A worker that is killed leaves its trainings running; the next one
finds them by their locks, lets them end, and begins no other in their stead meanwhile.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lorakit.core.errors import SaveError
from lorakit.jobs.job import state_of
from lorakit.jobs.lock import alone, take
from lorakit.jobs.processes import begin, interrupt, kill
from lorakit.jobs.queue import LOCK, waiting
from lorakit.jobs.record import Filed, read_folder
from lorakit.jobs.settings import read_settings

PAUSE = 0.2  # seconds between two looks


class Worker:
    """One look at the queue after the other, each under the queue's lock.

    `program` is what a recipe is trained by: a command that takes its file and `lorakit train`'s
    options.
    """

    def __init__(self, folder: Path, program: Sequence[str]) -> None:
        self.folder = folder
        self.program = program
        self.children: dict[str, subprocess.Popen[bytes]] = {}
        self.stopped: float | None = None  # when it was told to

    @property
    def stopping(self) -> bool:
        """Whether it was told to stop, and nobody has said `start` since."""
        return self.stopped is not None and read_settings(self.folder).started < self.stopped

    def turn(self) -> bool:
        """Note what ended, end what does not, begin what waits; whether anything is left to do."""
        settings = read_settings(self.folder)
        self._note_ends()
        jobs, _ = read_folder(self.folder)
        running = [job for job in jobs if state_of(job) == "running"]
        for job in running:
            self._stop(job, settings.grace)
        queued = [] if self.stopping else waiting(jobs)
        free = settings.workers - len(running)
        for job in queued[: max(free, 0)]:
            self._begin(job)
        return bool(running or queued or self.children)

    def _note_ends(self) -> None:
        gone = {id for id, child in self.children.items() if child.poll() is not None}
        codes = {id: self.children.pop(id).returncode for id in gone}
        jobs, _ = read_folder(self.folder)
        for job in jobs:
            id = job.record.id
            if job.record.began is None or job.record.ended is not None:
                continue
            if id in codes:
                job.write(ended=time.time(), exit_code=codes[id])
            elif id not in self.children and state_of(job) != "running":
                job.write(ended=time.time())  # another worker's, that ended before we came

    def _stop(self, job: Filed, grace: float) -> None:
        asked = job.record.asked
        if asked is None and self.stopping:
            job.write(asked=time.time(), asked_by="worker")
            interrupt(job.lock)
        elif asked is not None and time.time() - asked > grace:
            kill(job.lock)

    def _begin(self, job: Filed) -> None:
        lock = take(job.lock)
        if lock is None:
            return  # something that an earlier attempt began is not gone yet
        command = [*self.program, str(job.recipe_file), "--quiet"]
        command += ["--resume"] if job.record.attempts else []
        # First the word, then the deed: killed in between, the job is one to be resumed.
        begun = job.write(
            began=time.time(), attempts=job.record.attempts + 1,
            printed_from=job.printed.stat().st_size if job.printed.exists() else 0,
        )  # fmt: skip
        try:
            self.children[job.record.id] = begin(
                command, folder=job.record.folder, printed=job.printed, lock=lock
            )
        except (OSError, subprocess.SubprocessError) as error:
            begun.write(ended=time.time(), trouble=f"No process could be started: {error}.")
        finally:
            os.close(lock)


def work(folder: Path, lock: int, program: Sequence[str]) -> None:
    """Work a queue off, and give the worker's lock back when there is nothing left to do."""
    worker = Worker(folder, program)
    _listen(worker)
    while True:
        with alone(folder / LOCK):
            try:
                works = worker.turn()
            except SaveError:  # a disk that is full for a while: what waits goes on waiting
                works = True
            if not works:
                os.close(lock)  # whoever adds and starts after this begins another worker
                return
        time.sleep(PAUSE)


def _listen(worker: Worker) -> None:
    def note(number: int, frame: Any) -> None:
        del number, frame
        worker.stopped = time.time()

    # Signals that are ignored or blocked stay so in a child, and whoever called `start` may have
    # ignored Ctrl-C: a training must hear it. A handler does not travel.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, note)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
