"""Checkpoints: whole or not there, proved by hashes, the newest good one found."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path

from lorakit.core.errors import ResumeError

MARKER = "complete.json"
STATE = "trainer_state.json"


def seal(folder: Path) -> None:
    """Write the marker: the hash of every file. It is the last file of a checkpoint."""
    hashes = {str(path.relative_to(folder)): _hash(path) for path in sorted(_files(folder))}
    (folder / MARKER).write_text(json.dumps(hashes, indent=1))


def damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint, or None if every file is as it was sealed."""
    try:
        hashes = json.loads((folder / MARKER).read_text())
        for name, expected in hashes.items():
            if _hash(folder / name) != expected:
                return f"{name} is not what was saved"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (OSError, ValueError, AttributeError) as error:
        return f"{MARKER} cannot be read ({error})"
    return None


def step_of(folder: Path) -> int:
    """The step a checkpoint was taken after, by its name."""
    return int(folder.name.rpartition("-")[2])


def path_for(run: Path, step: int) -> Path:
    """Where the checkpoint of a step stands."""
    return run / f"checkpoint-{step}"


def all_of(run: Path) -> list[Path]:
    """The checkpoints of a run, newest first, good or not."""
    found = run.iterdir() if run.is_dir() else ()
    named = [path for path in found if re.fullmatch(r"checkpoint-\d+", path.name)]
    return sorted((path for path in named if path.is_dir()), key=step_of, reverse=True)


def newest(run: Path) -> tuple[Path | None, list[str]]:
    """The newest checkpoint that is whole, and a line for each damaged one that is passed over."""
    passed = []
    for folder in all_of(run):
        problem = damage(folder)
        if problem is None:
            return folder, passed
        passed.append(f"{folder.name} is passed over: {problem}")
    return None, passed


def require_whole(folder: Path) -> None:
    """Raise `ResumeError` unless the checkpoint is whole."""
    problem = damage(folder)
    if problem is not None:
        raise ResumeError(f"{folder} is damaged: {problem}. Resume from an earlier checkpoint.")


def rotate(run: Path, *, keep: int, best: int | None) -> None:
    """Delete all but the newest `keep` checkpoints and the one of the best step."""
    for folder in all_of(run)[keep:]:
        if step_of(folder) != best:
            shutil.rmtree(folder, ignore_errors=True)


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.name != MARKER]


def _hash(path: Path) -> str:
    whole = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            whole.update(chunk)
    return whole.hexdigest()
