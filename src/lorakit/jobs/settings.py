"""How a queue is worked off: what its worker reads at every turn."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lorakit.core.errors import QueueError
from lorakit.core.folder import write_whole
from lorakit.jobs.record import SETTINGS


class Settings(BaseModel):
    """Trainings at once, and the seconds after which one that was asked to stop is ended.

    `started` is when `start` was said last to a worker that was there.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    workers: Annotated[int, Field(ge=1)] = 1
    grace: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 60.0
    started: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0


def read_settings(folder: Path) -> Settings:
    """The queue's settings; the defaults where none are written, or what is written is none."""
    try:
        return Settings.model_validate_json((folder / SETTINGS).read_bytes())
    except (FileNotFoundError, ValidationError):
        return Settings()


def change_settings(
    folder: Path, *, workers: int | None = None, grace: float | None = None,
    started: float | None = None,
) -> None:  # fmt: skip
    """Write what is given over the queue's settings; or `QueueError`."""
    old = read_settings(folder)
    given = {"workers": workers, "grace": grace, "started": started}
    try:
        new = Settings(**(old.model_dump() | {k: v for k, v in given.items() if v is not None}))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise QueueError(
            f"{first['loc'][0]} is {first['input']!r}; expected at least "
            f"{'one' if first['loc'][0] == 'workers' else '0 seconds'}."
        ) from error
    if new != old:
        write_whole(folder / SETTINGS, new.model_dump_json().encode() + b"\n")
