"""What makes a run the same run: its recipe, its data and its base, compared before it goes on."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from torch import nn

from lorakit.core.errors import ResumeError, shortlist
from lorakit.core.fingerprint import difference, fingerprint
from lorakit.core.folder import write_whole
from lorakit.formats.manifest import versions
from lorakit.tasks.data import eval_place, split_files
from lorakit.train.folder import IDENTITY as FILE
from lorakit.train.recipe import Recipe, fields, with_method

# Fields that change where or how fast a run goes on, and not what it computes.
FREE = ("output", "sweep", "train.keep")


def hash_data(recipe: Recipe) -> dict[str, dict[str, str]]:
    """The sha256 of every data file, by split and name."""
    places = {"train": recipe.data.train, "eval": eval_place(recipe.data)}
    return {
        split: hash_files(split_files(recipe.data, place, split))
        for split, place in places.items()
        if place is not None
    }


def hash_files(files: list[Path]) -> dict[str, str]:
    """The sha256 of files by name; of files of one name, by their path from the common folder."""
    if len({file.name for file in files}) == len(files):
        return {file.name: _hash(file) for file in files}
    above = os.path.commonpath(files)
    return {os.path.relpath(file, above): _hash(file) for file in files}


def identity(recipe: Recipe, data: dict[str, Any], model: nn.Module, extras: list[str]) -> dict:
    """All that `differences` compares, as JSON."""
    return {
        "recipe": recipe.model_dump(),
        "data": data,
        "base": fingerprint(model, without=extras),
        "versions": versions(),
    }


def write_identity(run: Path, value: dict[str, Any]) -> None:
    """Write the run's identity, all or nothing."""
    write_whole(run / FILE, (json.dumps(value, indent=2) + "\n").encode())


def read_identity(run: Path) -> dict[str, Any] | None:
    """The identity of the run in this folder, or None where none was started."""
    try:
        value = json.loads((run / FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ResumeError(
            f"{run / FILE} is damaged: {error}. Start again in a new folder."
        ) from error
    return value


def check_same(recorded: dict[str, Any], recipe: Recipe, data: dict[str, Any]) -> None:
    """Raise `ResumeError` that names what differs in recipe or data from the run's beginning."""
    # A field that was added since the run began is taken to have been what it is by default.
    known = {name: field.get_default(call_default_factory=True) for name, field in fields().items()}
    old, new = known | _flat(with_method(recorded["recipe"])), _flat(recipe.model_dump())
    # Of files the content decides, which is compared below.
    here = {f"data.{split}" for split in data if data[split] and recorded["data"].get(split)}
    free = {*FREE, *here}
    changed = [
        f"{key} was {old.get(key)!r} and is {new.get(key)!r}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key) and key not in free
    ]
    changed += [
        f"the {split} data are other files than they were"
        for split in sorted(recorded["data"].keys() | data.keys())
        if recorded["data"].get(split) != data.get(split)
    ]
    if changed:
        raise ResumeError(
            f"This is not the run that was begun: {shortlist(changed, 3)}. Resume with what it was "
            "begun with, start again in another output, or pass --force."
        )


def check_same_base(recorded: dict[str, Any], model: nn.Module) -> None:
    """Raise `ResumeError` if the base is not the one the run was begun with."""
    found = difference(model, recorded["base"])
    if found is not None:
        raise ResumeError(
            f"The base is not the one the run was begun with: {found}. Restore it, start again in "
            "another output, or pass --force."
        )


def _flat(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, inner in value.items():
        if isinstance(inner, dict) and key in ("data", "lora", "train"):
            found.update(_flat(inner, f"{prefix}{key}."))
        else:
            found[prefix + key] = inner
    return found


def _hash(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
