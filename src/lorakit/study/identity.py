"""What makes a study the same study: compared before it goes on in a folder."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import platform
from pathlib import Path
from typing import Any

import torch

from lorakit.core.errors import AdapterFileError, ResumeError, SaveError, shortlist
from lorakit.core.folder import write_whole
from lorakit.formats.manifest import versions
from lorakit.models.load import load_config
from lorakit.study.kinds import Setting, Study
from lorakit.study.measure import OWN, task_recipe
from lorakit.tasks.benchmarks import benchmark_named
from lorakit.train.identity import hash_data, hash_files
from lorakit.train.recipe import Recipe

FILE = "study.json"
BENCHMARKS = "benchmarks"  # the option of studies that has some, and their place in the file
_OURS = (".lock", f".{FILE}.partial-", "rows")  # what may be there before the file is
_BASE = (
    "*.safetensors", "*.bin", "config.json", "tokenizer*.json", "vocab.*", "merges.txt", "*.model",
    "chat_template.*",
)  # fmt: skip


def claim(study: Study, setting: Setting) -> dict[str, Any]:
    """Begin the study in its folder, or go on with it; the content of `OUT/study.json`.

    Raises `ResumeError` that names what differs from the study that was begun there, or `SaveError`
    for a folder that holds something else.
    """
    mine = identity(study, setting)
    file = setting.out / FILE
    check_free(setting.out)
    begun = read_study(setting.out)
    if begun is None:
        begun = {"identity": mine, "runs": []}
    # Benchmarks may be added; those that were there before have to be the files that they were.
    known = begun["identity"].get(BENCHMARKS, {})
    fresh = {**known, **mine.get(BENCHMARKS, {})}
    changed = differences(
        {**begun["identity"], BENCHMARKS: known},
        {**mine, BENCHMARKS: {name: fresh[name] for name in known}},
    )
    if changed:
        raise ResumeError(
            f"{setting.out} holds another study: {shortlist(changed, 3)}. Go on with what it was "
            "begun with, or choose another --out."
        )
    begun["identity"][BENCHMARKS] = fresh
    begun["runs"].append({"date": f"{datetime.datetime.now():%Y-%m-%d %H:%M}", **_machine()})
    write_whole(file, (json.dumps(begun, indent=2) + "\n").encode())
    return begun


def read_study(out: Path) -> dict[str, Any] | None:
    """The content of `OUT/study.json`, or None where no study was begun."""
    try:
        return json.loads((out / FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ResumeError(
            f"{out / FILE} is damaged: {error}. Start again in a new folder."
        ) from error


def identity(study: Study, setting: Setting) -> dict[str, Any]:
    """All that decides what a study measures, as JSON; files by their contents, not their place."""
    found: dict[str, Any] = {
        "study": study.name,
        "model": model_digest(setting.model),
        "options": {n: v for n, v in setting.options.items() if n not in study.grows},
        "adapters": [_adapter(Path(own).expanduser()) for own in setting.adapters],
    }
    if setting.recipe is not None:
        hashes = hash_data(setting.recipe)
        found["data"] = hashes
        recipe = setting.recipe.model_dump(exclude={"output", "model", "sweep"})
        for split in ("train", "eval"):
            if hashes.get(split):  # a file or a folder: known by its content
                recipe["data"].pop(split)
        found["recipe"] = recipe
        names = [name for name in setting.options.get(BENCHMARKS, ()) if name != OWN]
        found[BENCHMARKS] = {name: _files(task_recipe(setting.recipe, name)) for name in names}
    return json.loads(json.dumps(found))


def _files(recipe: Recipe) -> dict[str, dict[str, str]]:
    """The sha256 of all files of a benchmark that runs may read, by split and name."""
    assert recipe.data.benchmark is not None
    known = benchmark_named(recipe.data.benchmark)
    found = hash_data(recipe)
    if known.has(recipe.data.train, "test"):
        found["test"] = hash_files(known.find(recipe.data.train, "test"))
    return found


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """Where two JSON values differ, as sentences with dotted names."""
    if isinstance(old, dict) and isinstance(new, dict):
        inner = (
            differences(old.get(key), new.get(key), f"{path}.{key}" if path else key)
            for key in [*old, *(key for key in new if key not in old)]
        )
        return [line for lines in inner for line in lines]
    if old == new:
        return []
    return [f"{path or 'it'} was {_short(old)} and is {_short(new)}"]


def model_digest(name: str) -> dict[str, str]:
    """The sha256 of a base's files by name: weights, config, tokenizer; a hub's id and commit."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        files = sorted({file for kind in _BASE for file in folder.glob(kind)})
        return {file.name: _digest(file) for file in files}
    return {"id": name, "commit": str(getattr(load_config(name), "_commit_hash", None))}


def _adapter(path: Path) -> str:
    if not path.exists():
        raise AdapterFileError(f"{path} is not there. Name the folder of an adapter.")
    return _digest(path)


def _digest(path: Path) -> str:
    """The sha256 of a file, or of all files of a folder with their names."""
    whole = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if not file.is_file():
            continue
        if path.is_dir():
            whole.update(str(file.relative_to(path)).encode())
        with file.open("rb") as content:
            while block := content.read(1 << 22):
                whole.update(block)
    return whole.hexdigest()


def _machine() -> dict[str, Any]:
    return {
        "machine": platform.machine(), "cores": os.cpu_count(),
        "threads": torch.get_num_threads(), "versions": versions(),
    }  # fmt: skip


def check_free(out: Path) -> None:
    """Raise `SaveError` for a folder that holds something, and no study that was begun."""
    if not out.exists() or (out / FILE).exists():
        return
    if not out.is_dir():
        raise SaveError(f"{out} is a file; expected a folder. Choose another --out.")
    other = [path.name for path in out.iterdir() if not path.name.startswith(_OURS)]
    if other:
        raise SaveError(
            f"{out} holds {shortlist(sorted(other), 3)} and no study. Choose a new --out."
        )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
