"""A job as people see it: what it is, and the state that the facts say."""

from __future__ import annotations

import dataclasses
import json
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lorakit.jobs.cache import Kept
from lorakit.jobs.lock import held
from lorakit.jobs.progress import Progress, progress_of
from lorakit.jobs.record import Filed
from lorakit.jobs.tail import SIZES, last_lines
from lorakit.train.folder import METRICS, SWEEP

State = Literal["waiting", "running", "done", "failed", "cancelled", "interrupted"]
RESUMABLE = ("failed", "cancelled", "interrupted")
TRACEBACK = "Traceback (most recent call last):"


@dataclass(frozen=True)
class Job:
    """One training of the queue. Times are seconds since 1970.

    `stopping` is a running one that was asked to stop; `position` counts those that wait from 1;
    `printed` is the file with what its process printed, tracebacks included.
    """

    id: str
    number: int
    title: str
    state: State
    stopping: bool
    position: int | None
    recipe: dict[str, Any]
    recipe_file: Path
    output: Path
    runs: tuple[Path, ...]  # the output itself, or the folders of a sweep's runs
    attempts: int
    added: float
    began: float | None
    ended: float | None
    exit_code: int | None
    error: str | None
    printed: Path
    progress: Progress

    @property
    def resumable(self) -> bool:
        """Whether `resume` is for it."""
        return self.state in RESUMABLE

    def told(self) -> dict[str, Any]:
        """All of it as JSON has it."""
        found = dataclasses.asdict(self) | {"resumable": self.resumable}
        found["runs"] = list(map(str, self.runs))
        return found | {k: str(v) for k, v in found.items() if isinstance(v, Path)}


def state_of(job: Filed) -> State:
    """The state by the facts: locks that are held, files of the run, then what the worker saw."""
    record = job.record
    if record.began is None:
        return "waiting" if record.ended is None else "cancelled"
    if record.ended is None and held(job.lock):
        return "running"
    if record.exit_code == 0 or _is_whole(job):
        return "done"
    if record.asked_by == "user":
        return "cancelled"
    if record.trouble is not None:
        return "failed"
    if record.asked_by == "worker" or record.exit_code in (130, -signal.SIGINT):
        return "interrupted"
    if record.exit_code is not None:
        return "failed" if record.exit_code > 0 else "interrupted"
    # No one saw its end. One that failed has said so.
    return "failed" if _last_words(job) else "interrupted"


def view(job: Filed, position: int | None = None) -> Job:
    """The job as it is now."""
    record, state = job.record, state_of(job)
    progress = Progress()
    if record.attempts:
        progress = progress_of(job.runs, job.recipe, running=state == "running")
    return Job(
        id=record.id, number=record.number, title=record.title, state=state,
        stopping=state == "running" and record.asked is not None,
        position=position, recipe=job.recipe.model_dump(), recipe_file=job.recipe_file,
        output=job.output, runs=job.runs, attempts=record.attempts, added=record.added,
        began=record.began, ended=_ended(job) if state not in ("waiting", "running") else None,
        exit_code=record.exit_code, error=_error(job, state), printed=job.printed,
        progress=progress,
    )  # fmt: skip


def _is_whole(job: Filed) -> bool:
    """Whether the run has all that it is to leave; while it is begun, that is of this job.

    Of a job that ended with an error it may be another training's, which filled the same folder.
    """
    file = job.output / (SWEEP if job.recipe.sweep else METRICS)
    failed = job.record.exit_code is not None and job.record.exit_code > 0
    if failed and (not file.exists() or file.stat().st_mtime < (job.record.began or 0.0)):
        return False
    if not job.recipe.sweep:
        return file.exists()
    told = _outcomes(job.output / SWEEP)
    return told is not None and len(told) == len(job.runs) and not any(told)


def _read_outcomes(file: Path) -> list[Any] | None:
    """The error of each run of a sweep that has come to its end."""
    try:
        return [own["error"] for own in json.loads(file.read_text(encoding="utf-8"))]
    except (OSError, ValueError, LookupError, TypeError):
        return None  # not there, or not what a sweep writes: then it has not ended


def _ended(job: Filed) -> float | None:
    """When it ended; where no one saw it, when it last gave a sign of life."""
    if job.record.ended is not None:
        return job.record.ended
    try:
        return max(job.printed.stat().st_mtime, job.record.began or 0.0)
    except OSError:
        return job.record.began


def _error(job: Filed, state: State) -> str | None:
    """One line on what went wrong, and what to do."""
    record = job.record
    if state == "failed":
        if record.trouble is not None:
            return record.trouble
        fallback = f"It ended with exit code {record.exit_code}; see {job.printed}."
        return _last_words(job) or fallback
    if state != "interrupted":
        return None
    why = "Its process is gone and told no end, as after kill -9 or a power cut."
    if record.asked_by == "worker":
        why = "It was stopped together with the queue's worker."
    elif record.exit_code is not None and record.exit_code < 0:
        why = f"Its process was ended by {_named(-record.exit_code)}."
        if record.exit_code == -signal.SIGKILL:
            why += " Where memory is short, the system does so."
    elif record.exit_code is not None:
        why = "It was stopped by Ctrl-C or SIGINT."
    return f"{why} Resume it: it goes on from the newest whole checkpoint."


def _named(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _last_words(job: Filed) -> str | None:
    """The error in what the last attempt printed: the command's own line, or a traceback's last."""
    lines = [
        line for line in last_lines(job.printed, SIZES[1], job.record.printed_from) if line.strip()
    ]
    told = [line for line in lines if line.startswith("error: ")]
    if told:
        return told[-1].removeprefix("error: ")
    if TRACEBACK in lines:
        return f"{lines[-1].strip()} (the traceback is in {job.printed})"
    return None


_outcomes = Kept(_read_outcomes)
