"""Runs on disk, those of the queue and those by hand: their state, their curves, side by side."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lorakit.core.errors import LorakitError, QueueError
from lorakit.jobs.cache import Kept
from lorakit.jobs.lock import held
from lorakit.jobs.progress import Progress, progress_of
from lorakit.jobs.tail import last_logged, parse
from lorakit.train.folder import EVENTS, IDENTITY, LOCK, LOG, METRICS
from lorakit.train.recipe import Recipe, fields, get_field, make_recipe

DEPTH = 3  # folders below the root: runs, and the runs of sweeps beside them
MOST = 1 << 22  # bytes of events at once


@dataclass(frozen=True)
class Run:
    """A run's folder. `began` and `changed` are seconds since 1970; `error` is why it failed."""

    folder: Path
    name: str  # by its path below the root
    state: Literal["running", "done", "failed", "interrupted"]
    recipe: dict[str, Any]
    metrics: dict[str, Any]
    began: float
    changed: float
    error: str | None
    progress: Progress

    def told(self) -> dict[str, Any]:
        """All of it as JSON has it."""
        return dataclasses.asdict(self) | {"folder": str(self.folder)}


@dataclass(frozen=True)
class Comparison:
    """Runs side by side: values in the order of `names`, None where a run has none."""

    names: list[str]
    fields: dict[str, list[Any]]  # those of the recipes that are not all equal, by dotted name
    metrics: dict[str, list[Any]]

    def told(self) -> dict[str, Any]:
        """All of it as JSON has it."""
        return dataclasses.asdict(self)


def runs(folder: str | Path) -> list[Run]:
    """Every run below a folder, whoever began it, the newest first; those of sweeps each.

    What is no whole run yet, such as one whose base is still loaded, is not among them.
    """
    root = Path(folder).expanduser().resolve()
    found = [_run(path, root) for path in _folders(root, DEPTH)]
    return sorted((run for run in found if run), key=lambda run: (-run.began, run.name))


def run_at(folder: str | Path) -> Run:
    """The run in a folder; or `QueueError`."""
    path = Path(folder).expanduser().resolve()
    found = _run(path, path.parent)
    if found is None:
        raise QueueError(f"{folder} holds no run: it lacks a good {IDENTITY}. Check the path.")
    return found


def events_since(run: str | Path, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
    """The events of a run behind an offset, at most 4 MiB of them, and the offset to ask by next.

    Begin with 0. A line that is not ended yet comes when it is. A run that goes on from an earlier
    step writes its later events anew: where the offset lies behind that, all come again from the
    first, whose step then is not above the last one that was seen.
    """
    try:
        with (Path(run).expanduser() / EVENTS).open("rb") as stream:
            begin = max(offset, 0)
            stream.seek(max(begin - 1, 0))
            if begin and stream.read(1) != b"\n":
                begin = 0
            stream.seek(begin)
            content = stream.read(MOST)
    except FileNotFoundError:
        return [], 0
    whole = content[: content.rfind(b"\n") + 1]
    events = [event for line in whole.split(b"\n")[:-1] if (event := parse(line)) is not None]
    return events, begin + len(whole)


def compare(folders: Sequence[str | Path]) -> Comparison:
    """The fields in which the recipes of runs differ, and the metrics of all; or `QueueError`."""
    chosen = [run_at(folder) for folder in folders]
    names = [run.name for run in chosen]
    if len(set(names)) < len(names):
        names = [str(run.folder) for run in chosen]
    told = {
        name: [get_field(run.recipe, name) for run in chosen]
        for name in fields()
        if name not in ("output", "sweep")
    }
    metrics = list(dict.fromkeys(name for run in chosen for name in run.metrics))
    return Comparison(
        names,
        {name: values for name, values in told.items() if any(v != values[0] for v in values)},
        {name: [run.metrics.get(name) for run in chosen] for name in metrics},
    )


def _folders(root: Path, depth: int) -> list[Path]:
    """The folders below the root, and itself, that hold a run; nothing in a run is looked at."""
    if (root / IDENTITY).is_file():
        return [root]
    if not depth:
        return []
    try:
        with os.scandir(root) as entries:
            inner = [
                entry.path
                for entry in entries
                if not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False)
            ]
    except OSError:
        return []  # not there, or not ours to read: then there is nothing of ours
    return [found for path in inner for found in _folders(Path(path), depth - 1)]


def _run(folder: Path, root: Path) -> Run | None:
    known = _identity(folder / IDENTITY)
    if known is None:
        return None
    recipe, began = known
    metrics = _metrics(folder / METRICS)
    state, error = _state(folder, done=metrics is not None)
    return Run(
        folder=folder, name=str(folder.relative_to(root)) if folder != root else folder.name,
        state=state, recipe=recipe.model_dump(), metrics=copy.copy(metrics or {}), began=began,
        changed=max(map(_changed, (folder / IDENTITY, folder / EVENTS, folder / METRICS))),
        error=error, progress=progress_of([folder], recipe, running=state == "running"),
    )  # fmt: skip


def _state(folder: Path, *, done: bool) -> tuple[Any, str | None]:
    if done:
        return "done", None
    try:
        running = held(folder / LOCK)
    except PermissionError:  # another user's run: what it has written tells the rest
        running = False
    if running:
        return "running", None
    last = last_logged(folder / LOG)
    return ("failed", last[1]) if last and last[0] == "ERROR" else ("interrupted", None)


def _changed(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0


def _read_identity(file: Path) -> tuple[Recipe, float] | None:
    """The recipe that a run was begun with, and when; None where that cannot be read."""
    try:
        recipe = make_recipe(json.loads(file.read_text(encoding="utf-8"))["recipe"])
        return recipe, file.stat().st_mtime
    except (OSError, ValueError, LookupError, TypeError, RecursionError, LorakitError):
        return None


def _read_metrics(file: Path) -> dict[str, Any] | None:
    """The metrics of a run that has ended well; numbers that JSON does not know are None."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {
        k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in found.items()
    }


_identity = Kept(_read_identity)
_metrics = Kept(_read_metrics)
