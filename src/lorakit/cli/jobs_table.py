"""Jobs and runs as text: columns, a bar, and what went wrong below."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lorakit.jobs.history import Comparison, Run
    from lorakit.jobs.job import Job
    from lorakit.jobs.progress import Progress

WIDTH = 16  # of a bar


def jobs_table(jobs: Sequence[Job]) -> str:
    """One line a job, and one more for its error."""
    rows = []
    for job in jobs:
        state = f"waiting, {_ordinal(job.position)}" if job.position else job.state
        state = "stopping" if job.stopping else state
        rows.append([str(job.number), job.id, job.title, state, *_progress(job)])
    lines = columns([["no.", "id", "title", "state", "progress", "left", "loss"], *rows])
    told = [f"job {job.number}: {job.error}" for job in jobs if job.error]
    return "\n".join([*lines, *told])


def runs_table(runs: Sequence[Run]) -> str:
    """One line a run."""
    rows = []
    for run in runs:
        recipe = run.recipe
        metrics = [f"{k} {v:.4g}" for k, v in run.metrics.items() if _is_score(k, v)]
        shown = ", ".join(metrics) or _count(run.progress)
        base = str(recipe["model"]).rstrip("/").rpartition("/")[2]
        rows.append([run.name, run.state, base, recipe["task"], recipe["method"], shown])
    lines = columns([["run", "state", "base", "task", "method", "metrics"], *rows])
    told = [f"{run.name}: {run.error}" for run in runs if run.error]
    return "\n".join([*lines, *told])


def comparison_table(found: Comparison) -> str:
    """Fields that differ, then metrics, a column for each run."""
    rows = [["", *found.names]]
    for values in (found.fields, found.metrics):
        rows += [[name, *map(_plain, own)] for name, own in values.items()]
    return "\n".join(columns(rows))


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """The rows with their cells below each other."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return ["  ".join(c.ljust(w) for c, w in zip(row, widths)).rstrip() for row in rows]


def bar(progress: Progress) -> str:
    """`[####----] 50/100`, or as much of it as is known."""
    if not progress.steps:
        return _count(progress)
    done = round(WIDTH * min(progress.step / progress.steps, 1))
    return f"[{'#' * done}{'-' * (WIDTH - done)}] {_count(progress)}"


def duration(seconds: float) -> str:
    """`3 h 5 min`, `3 min 20 s` or `20 s`."""
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _progress(job: Job) -> list[str]:
    progress = job.progress
    if job.state == "waiting" and not progress.step:
        return ["", "", ""]
    left = progress.seconds_left if job.state == "running" else None
    loss = "" if progress.loss is None else f"{progress.loss:.4f}"
    return [bar(progress), "" if left is None else duration(left), loss]


def _count(progress: Progress) -> str:
    if not progress.step:
        return "" if not progress.steps else f"0/{progress.steps}"
    return f"{progress.step}/{progress.steps or '?'}"


def _ordinal(position: int | None) -> str:
    return "next" if position == 1 else f"{position} in line"


def _is_score(name: str, value: Any) -> bool:
    return name not in ("seconds", "step") and isinstance(value, (int, float))


def _plain(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.5g}" if isinstance(value, float) else str(value)
