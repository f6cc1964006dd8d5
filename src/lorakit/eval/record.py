"""The record of an evaluation: what it is of, and each answer as soon as it is written."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lorakit.core.errors import ResumeError, SaveError, shortlist
from lorakit.core.folder import write_whole

IDENTITY = "identity.json"
NESTED = ("adapters", "decoding")


def recorded(folder: Path, *, resume: bool) -> dict[str, Any] | None:
    """The identity of the evaluation to go on with; None for a new one, which needs a free folder.

    Raises `SaveError` where something is there that is not to be gone on with.
    """
    file = folder / IDENTITY
    if not file.exists():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise SaveError(f"{folder} is there and holds no evaluation. Choose another --out.")
        return None
    if not resume:
        raise SaveError(
            f"{folder} already holds an evaluation. Pass --resume to go on with it, or choose "
            "another --out."
        )
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ResumeError(f"{file} is damaged: {error}. Choose another --out.") from error


def check_same(folder: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    """Raise `ResumeError` that names what is not as it was when the evaluation was begun."""
    old, new = _flat(old), _flat(json.loads(json.dumps(new)))
    changed = [
        f"{key} was {_short(old.get(key))} and is {_short(new.get(key))}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]
    if changed:
        raise ResumeError(
            f"This is not the evaluation that was begun in {folder}: {shortlist(changed, 2)}. "
            "Resume with what it was begun with, or choose another --out."
        )


def _flat(value: dict[str, Any]) -> dict[str, Any]:
    """The settings by dotted names, so that a message can tell of the one that changed."""
    told = {key: inner for key, inner in value.items() if key not in NESTED}
    for key in NESTED:
        told |= {f"{key}.{name}": own for name, own in (value.get(key) or {}).items()}
    return told


def _short(value: Any) -> str:
    told = repr(value)
    return told if len(told) <= 80 else told[:77] + "..."


def write_identity(folder: Path, identity: dict[str, Any]) -> None:
    """Say what the evaluation is of, before anything of it is there."""
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / IDENTITY, (json.dumps(identity, indent=2) + "\n").encode())


class Answers:
    """The answers of one voice, by place; in a file too, if there is one, batch for batch.

    A line that a crash cut off at the end of the file is dropped; any other damage is an error.
    """

    def __init__(self, prompts: Sequence[str], file: Path | None = None):
        self.prompts = prompts
        self.file = file
        self.found: dict[int, str] = {}
        if file is not None and file.exists():
            self._read(file)

    def missing(self) -> list[int]:
        """The places that have no answer yet."""
        return [place for place in range(len(self.prompts)) if place not in self.found]

    def add(self, batch: Sequence[tuple[int, str]]) -> None:
        """Keep the answers of a batch; on disk when this returns."""
        self.found.update(batch)
        if self.file is None:
            return
        with self.file.open("ab") as stream:
            for place, answer in batch:
                line = {"row": place, "prompt": self.prompts[place], "answer": answer}
                stream.write((json.dumps(line, ensure_ascii=False) + "\n").encode())
            stream.flush()
            os.fsync(stream.fileno())

    def _read(self, file: Path) -> None:
        content = file.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            with file.open("r+b") as stream:  # else the next answer would be glued to the rest
                stream.truncate(len(whole))
        for number, line in enumerate(whole.split(b"\n")[:-1], 1):
            try:
                entry = json.loads(line)
                place, answer = entry["row"], entry["answer"]
                good = place >= 0 and entry["prompt"] == self.prompts[place]
                good = good and isinstance(answer, str)
            except (ValueError, LookupError, TypeError):
                good = False
            if not good:
                raise ResumeError(
                    f"{file}, line {number} is no answer of this evaluation. Delete the file to "
                    "have its answers written again."
                )
            self.found[place] = answer


def file_of(folder: Path, voice: str, voices: Sequence[str], stem: str, ending: str) -> Path:
    """The voice's own file: its label where that is a plain name, else with its number."""
    plain = re.sub(r"[^\w.-]+", "-", voice)
    others = [re.sub(r"[^\w.-]+", "-", other) for other in voices if other != voice]
    if plain.casefold() in (other.casefold() for other in others):
        plain += f"-{list(voices).index(voice) + 1}"
    return folder / f"{stem}-{plain}{ending}"
