"""A job on disk: one JSON file with what was asked for and what became of it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from lorakit.core.errors import LorakitError, QueueError
from lorakit.core.folder import write_whole
from lorakit.jobs.cache import Kept
from lorakit.train.expand import expand
from lorakit.train.recipe import Recipe, make_recipe

NAME = re.compile(r"(\d{4,})-([0-9a-f]{6})\.json")
SETTINGS = "settings.json"  # of the worker: no job
TITLE = 200  # characters
_LARGEST = 1 << 20  # bytes of a job's file
Time = Annotated[float, Field(ge=0, allow_inf_nan=False)]  # seconds since 1970


class Record(BaseModel):
    """What a job's file says: facts and wishes, and no state, which the facts give.

    `began` is that of the last attempt, and None where the job waits for its first or next one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    version: Literal[1] = 1
    id: str
    number: int
    title: Annotated[str, Field(min_length=1, max_length=TITLE)]
    folder: str  # where it was asked for: relative paths of the recipe count from there
    recipe: dict[str, Any]
    place: int  # among those that wait, the lowest is next
    added: Time
    attempts: Annotated[int, Field(ge=0)] = 0
    began: Time | None = None
    ended: Time | None = None
    exit_code: int | None = None
    asked: Time | None = None  # to stop
    asked_by: Literal["user", "worker"] | None = None
    printed_from: Annotated[int, Field(ge=0)] = 0  # where the last attempt's output begins
    trouble: str | None = None  # why no process could be started

    @field_validator("title")
    @classmethod
    def _shown(cls, title: str) -> str:
        if not title.isprintable():
            raise ValueError("expected one line that can be printed")
        return title

    @field_validator("folder")
    @classmethod
    def _whole(cls, folder: str) -> str:
        if not Path(folder).is_absolute() or "\0" in folder:
            raise ValueError("expected an absolute path")
        return folder


@dataclass(frozen=True)
class Filed:
    """A job's record with the file that it is in, and the recipe that it holds."""

    file: Path
    record: Record
    recipe: Recipe
    runs: tuple[Path, ...]  # the run's folder, or those of a sweep's runs

    @cached_property
    def output(self) -> Path:
        """The folder that the recipe names."""
        return place_of(self.recipe.output, self.record.folder)

    @property
    def lock(self) -> Path:
        """The file whose lock the training holds."""
        return self.file.with_suffix(".lock")

    @property
    def recipe_file(self) -> Path:
        """The resolved recipe, as `lorakit train` reads it."""
        return self.file.with_suffix(".yaml")

    @property
    def printed(self) -> Path:
        """What the training printed, tracebacks included, of all attempts."""
        return self.file.with_suffix(".out")

    def write(self, **changes: Any) -> Filed:
        """Put changes into the file, all or nothing; return the job with them."""
        changed = Record.model_validate(self.record.model_dump() | changes)
        write_whole(self.file, changed.model_dump_json(indent=1).encode() + b"\n")
        return Filed(self.file, changed, self.recipe, self.runs)

    def delete(self) -> None:
        """Delete what the queue keeps of it; the run's folder stays."""
        for path in (self.file, self.recipe_file, self.printed, self.lock):
            path.unlink(missing_ok=True)


def filed(file: Path, record: Record) -> Filed:
    """A record with its recipe made of it, or `RecipeError`."""
    recipe = make_recipe(record.recipe, file.name)
    own = [one for _, one in expand(recipe)] if recipe.sweep else [recipe]
    return Filed(file, record, recipe, tuple(place_of(r.output, record.folder) for r in own))


def place_of(output: str, folder: str) -> Path:
    """A recipe's output as an absolute path; relative ones count from `folder`."""
    return Path(folder, Path(output).expanduser()).resolve()


def read_folder(folder: Path) -> tuple[list[Filed], dict[str, str]]:
    """Every job of a queue's folder, and what is wrong with each file that is none."""
    found: list[Filed] = []
    damaged: dict[str, str] = {}
    for file in sorted(folder.glob("*.json")) if folder.is_dir() else ():
        if file.name == SETTINGS:
            continue
        one = _kept(file)
        if isinstance(one, Filed):
            found.append(one)
        elif one is not None:
            damaged[file.name] = one
    return found, damaged


def _read(file: Path) -> Filed | str | None:
    """The job in a file, why it is none, or None where the file has gone meanwhile."""
    try:
        return _checked(file)
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        return f"{where or 'it'}: {first['msg']}"
    except (LorakitError, ValueError, RecursionError) as error:
        return " ".join(str(error).split())


def _checked(file: Path) -> Filed:
    named = NAME.fullmatch(file.name)
    if named is None:
        raise QueueError("its name is not that of a job, such as 0001-12ab34.json")
    if file.is_symlink() or not file.is_file():
        raise QueueError("it is no plain file")
    with file.open("rb") as stream:
        content = stream.read(_LARGEST + 1)
    if len(content) > _LARGEST:
        raise QueueError(f"it is larger than any job's: over {_LARGEST} bytes")
    record = Record.model_validate_json(content)
    if (record.number, record.id) != (int(named[1]), named[2]):
        raise QueueError(f"it says that it is job {record.number} {record.id}, unlike its name")
    json.dumps(record.recipe, allow_nan=False)  # what it hands on must be JSON as well
    return filed(file, record)


_kept = Kept(_read)
