"""What stands in a run's folder by which name, and whether a folder is free for a new run."""

from __future__ import annotations

from pathlib import Path

from lorakit.core.errors import SaveError

IDENTITY = "run.json"
EVENTS = "events.jsonl"
LOG = "log.txt"
CHECKPOINTS = "checkpoints"
ADAPTER = "adapter"
METRICS = "metrics.json"  # the last file that a run writes: where it is, the run is whole
LOCK = ".lock"
SWEEP = "sweep.json"  # beside the folders of a sweep's runs, when all have ended


def check_free(folder: Path) -> None:
    """Raise `SaveError` unless a new run can have this folder."""
    if (folder / IDENTITY).exists():
        raise SaveError(
            f"{folder} already holds a run. Pass --resume to go on with it, or choose another "
            "output."
        )
    # What a run leaves that was killed before it had begun is no one's work.
    ours = (LOCK, LOG, f".{IDENTITY}.partial-")
    if folder.exists() and (
        not folder.is_dir() or any(not path.name.startswith(ours) for path in folder.iterdir())
    ):
        raise SaveError(f"{folder} is there and holds no run. Choose another output.")
