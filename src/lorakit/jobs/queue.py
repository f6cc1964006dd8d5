"""The queue: a folder of jobs, and what any process can do with them at any time."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lorakit.core.errors import QueueError, SaveError, shortlist
from lorakit.core.folder import write_whole
from lorakit.jobs.checks import check_outputs, check_recipe
from lorakit.jobs.job import RESUMABLE, Job, state_of, view
from lorakit.jobs.lock import alone, held, require_locks, take
from lorakit.jobs.processes import begin_worker, interrupt, kill, terminate
from lorakit.jobs.record import TITLE, Filed, Record, filed, place_of, read_folder
from lorakit.jobs.settings import change_settings, read_settings
from lorakit.train.recipe import Recipe

QUEUE = ".queue"  # in the folder of runs
LOCK = ".lock"  # whoever changes a job holds it, for milliseconds
WORKER = "worker.lock"  # held by the worker while it lives


class Queue:
    """The jobs in a folder, by default `runs/.queue`.

    Nothing is kept in memory: every call reads the files and asks which locks are held. Raises
    `UnsupportedError` on systems without such locks, `QueueError` for what a job's state forbids.
    """

    def __init__(self, folder: str | Path = Path("runs", QUEUE)) -> None:
        require_locks()
        self.folder = Path(folder).expanduser().resolve()

    def add(self, recipe: Recipe, *, title: str | None = None) -> Job:
        """Put a recipe at the queue's end; it begins when `start` was called.

        Raises at once what `lorakit train` would raise before it loads the base, and `SaveError`
        where another job is to write into the same folder. Relative paths count from here.
        """
        title = _title(title or Path(recipe.output).name)
        check_recipe(recipe)
        folder = os.getcwd()
        output = place_of(recipe.output, folder)
        if self.folder == output or self.folder in output.parents:
            raise SaveError(f"{output} is in the queue's own folder. Choose another output.")
        with self._alone(make=True):
            jobs = self._filed()
            _check_unqueued(output, jobs)
            # Of damaged files only the name is known; their numbers are taken as well.
            number = 1 + max((_number(file) for file in self.folder.glob("*.json")), default=0)
            place = 1 + max((job.record.place for job in jobs), default=0)
            record = Record(
                id=secrets.token_hex(3), number=number, title=title, folder=folder,
                recipe=recipe.model_dump(mode="json"), place=place, added=time.time(),
            )  # fmt: skip
            file = self.folder / f"{number:04d}-{record.id}.json"
            job = filed(file, record)
            write_whole(job.recipe_file, recipe.dump().encode())
            return self._view(job.write().record.id)

    def jobs(self) -> list[Job]:
        """Every job, the newest first. Quick enough to be asked every second."""
        found, _ = read_folder(self.folder)
        places = {job.record.id: at for at, job in enumerate(waiting(found), 1)}
        order = sorted(found, key=lambda job: job.record.number, reverse=True)
        return [view(job, places.get(job.record.id)) for job in order]

    def damaged(self) -> dict[str, str]:
        """The files in the queue's folder that are no jobs, and why; they are left as they are."""
        return read_folder(self.folder)[1]

    def job(self, id: str) -> Job:
        """One job, by its id or its number; or `QueueError`."""
        return self._view(self._find(id).record.id)

    def start(self, *, workers: int | None = None, grace: float | None = None) -> bool:
        """Make sure that a worker takes what waits; return whether there is anything to do.

        There is one worker whoever calls this how often. It trains `workers` jobs at once (at first
        one), and ends one that was asked to stop after `grace` seconds (at first 60); both hold
        until they are said anew. It outlives this process, and ends when nothing waits any more.
        """
        if not self.folder.is_dir():
            return False
        with self._alone():
            change_settings(self.folder, workers=workers, grace=grace)
            if not any(state_of(job) in ("waiting", "running") for job in self._filed()):
                return False
            lock = take(self.folder / WORKER)
            if lock is None:  # one is there, which may have been told to stop
                change_settings(self.folder, started=time.time())
            else:
                try:
                    begin_worker(self.folder, lock)
                finally:
                    os.close(lock)
            return True

    def stop(self) -> bool:
        """Stop the worker, and with it, gently, what it trains; return whether there was one.

        What was running is `interrupted` then and can be resumed; what waits goes on waiting.
        """
        return terminate(self.folder / WORKER)

    def works(self) -> bool:
        """Whether a worker is there."""
        return held(self.folder / WORKER)

    def cancel(self, id: str) -> Job:
        """Take a waiting job out, or stop a running one as Ctrl-C does, so that it can go on later.

        It saves after its step. The worker ends it if it has not done so in time; where no worker
        is left, a second call does.
        """
        with self._alone():
            job = self._find(id)
            state, now = state_of(job), time.time()
            if state == "waiting":
                job.write(asked=now, asked_by="user", ended=now)
            elif state != "running":
                raise _not_so(job, state, "Only what waits or runs can be cancelled.")
            elif job.record.asked is None:
                job.write(asked=now, asked_by="user")
                interrupt(job.lock)
            elif now - job.record.asked > read_settings(self.folder).grace:
                kill(job.lock)
            return self._view(job.record.id)

    def resume(self, id: str) -> Job:
        """Let a job that was cancelled, failed or interrupted wait again, to go on where it was."""
        with self._alone():
            job = self._find(id)
            state = state_of(job)
            if state not in RESUMABLE:
                raise _not_so(job, state, "Only a job that ended before its time can go on.")
            jobs = self._filed()
            _check_unqueued(job.output, jobs)
            if not job.record.attempts:  # it never began: then it is to begin, in a free folder
                check_outputs(job.recipe.model_copy(update={"output": str(job.output)}))
            job.write(
                began=None, ended=None, exit_code=None, asked=None, asked_by=None, trouble=None,
                place=1 + max(own.record.place for own in jobs),
            )  # fmt: skip
            return self._view(job.record.id)

    def move(self, id: str, *, first: bool = True) -> Job:
        """Put a waiting job before all others that wait, or behind them."""
        with self._alone():
            job = self._find(id)
            if (state := state_of(job)) != "waiting":
                raise _not_so(job, state, "Only what waits can be moved.")
            places = [own.record.place for own in waiting(self._filed())]
            job.write(place=min(places) - 1 if first else max(places) + 1)
            return self._view(job.record.id)

    def remove(self, id: str) -> None:
        """Forget a job that does not run; the run's folder stays as it is."""
        with self._alone():
            job = self._find(id)
            if (state := state_of(job)) == "running":
                raise _not_so(job, state, "Cancel it first.")
            job.delete()

    @contextmanager
    def _alone(self, *, make: bool = False) -> Iterator[None]:
        if not make and not self.folder.is_dir():
            raise QueueError(f"{self.folder} is no queue yet. Add a recipe, or check the path.")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with alone(self.folder / LOCK):
                yield
        except OSError as error:
            raise SaveError(
                f"{error.filename or self.folder} cannot be used: {error.strerror or error}. "
                "Choose another folder for the queue."
            ) from error

    def _filed(self) -> list[Filed]:
        return read_folder(self.folder)[0]

    def _view(self, id: str) -> Job:
        return next(job for job in self.jobs() if job.id == id)

    def _find(self, id: str) -> Filed:
        found, damaged = read_folder(self.folder)
        for job in found:
            if id in (job.record.id, job.file.stem) or _is_number(id, job.record.number):
                return job
        known = [f"{job.record.number} ({job.record.id})" for job in reversed(found)]
        broken = next((name for name in damaged if id in name), None)
        if broken is not None:
            raise QueueError(f"{self.folder / broken} is no job: {damaged[broken]}. Delete it.")
        raise QueueError(
            f"{id!r} is no job in {self.folder}. "
            + (f"There are {shortlist(known)}." if known else "It holds none.")
        )


def waiting(jobs: list[Filed]) -> list[Filed]:
    """Those that wait, the next one first."""
    found = [job for job in jobs if state_of(job) == "waiting"]
    return sorted(found, key=lambda job: (job.record.place, job.record.number))


def _check_unqueued(output: Path, jobs: list[Filed]) -> None:
    """Raise `SaveError` where a job that waits or runs writes to this folder, in it, or above."""
    for job in jobs:
        theirs = job.output
        near = output == theirs or output in theirs.parents or theirs in output.parents
        if near and state_of(job) in ("waiting", "running"):
            raise SaveError(
                f"{output} is taken: job {job.record.number} ({job.record.title}) writes to "
                f"{theirs}. Choose another output, or cancel that job."
            )


def _title(title: str) -> str:
    plain = " ".join("".join(c if c.isprintable() else " " for c in title).split())
    return plain[:TITLE] or "run"


def _number(file: Path) -> int:
    head = file.name.partition("-")[0]
    return int(head) if head.isdecimal() and len(head) < 10 else 0


def _is_number(said: str, number: int) -> bool:
    return said.isascii() and said.isdecimal() and len(said) < 10 and int(said) == number


def _not_so(job: Filed, state: str, rule: str) -> QueueError:
    return QueueError(f"Job {job.record.number} ({job.record.title}) is {state}. {rule}")
