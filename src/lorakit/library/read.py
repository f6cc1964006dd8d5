"""`read_entry`: a card's facts from configs, headers and what lies beside an adapter."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from lorakit.core.errors import LibraryError, LorakitError
from lorakit.formats.glance import SINGLE, Glance, glance_file, glance_folder
from lorakit.formats.tensors import read_json
from lorakit.library import front
from lorakit.library.beside import SOURCE, page_of, previews, run_of
from lorakit.library.entry import Entry, entry_id, printable
from lorakit.library.roots import placed, resolved
from lorakit.library.told import Told, told_by
from lorakit.library.untrusted import LONGEST_TEXT, numbers, read_some, text, texts

_MOST = 2**16  # bytes of a recipe, of metrics, of a page's head
_GENERIC = ("pytorch_lora_weights", "adapter_model", "adapter", "lora")
_VERSION = re.compile(r"v?\d+(\.\d+)*|(checkpoint|step|epoch)-?\d+", re.ASCII)
_TASKS = {
    "CAUSAL_LM": "causal-lm", "SEQ_CLS": "classification", "SEQ_2_SEQ_LM": "seq2seq",
    "TOKEN_CLS": "token-classification", "QUESTION_ANS": "question-answering",
    "FEATURE_EXTRACTION": "features",
}  # fmt: skip


@dataclass(frozen=True)
class _Beside:
    """What stands around an adapter: the page, its run, and what the run says."""

    page: Mapping[str, Any]
    run: Path | None
    recipe: Mapping[str, Any]
    metrics: Mapping[str, Any]
    source: Mapping[str, Any]


def read_entry(path: str | os.PathLike, *, root: str | os.PathLike | None = None) -> Entry:
    """The entry of the adapter at a path: a folder, a run's folder, or a single file.

    Only headers and small files are read, at most some megabytes in all; a damaged adapter has a
    `problem`. `root` is the library's folder that it is in; without it, the one above. Raises
    `LibraryError` where there is no adapter.
    """
    place = placed(path)
    above = None if root is None else resolved(root)
    found = look(place, above)
    if found is None and place.is_dir():
        found = look(place / "adapter", above)
    if found is None:
        raise LibraryError(
            f"{printable(str(place))} holds no adapter of a known format. Name its folder or file."
        )
    return found


def look(place: Path, root: Path | None) -> Entry | None:
    """The entry of a place without links in its folders, or None where there is no adapter."""
    if not (place.is_dir() or place.is_file()):  # nor a pipe, which would be waited for
        return None
    seen = glance_folder(place) if place.is_dir() else glance_file(place)
    if seen is None:
        return None
    about = _beside(place, seen)
    above = root or (place.parent if about.run is None else about.run.parent)
    return _entry(place, above, seen, told_by(seen.told), about)


def _entry(place: Path, root: Path, seen: Glance, told: Told, about: _Beside) -> Entry:
    page, recipe = about.page, about.recipe
    own = about.run if about.run is not None and about.run != root else place
    preview = next(previews(place), None)
    states = _states(place)
    base = text(seen.base) or text(recipe.get("model")) or _first(page, "base_model")
    return Entry(
        id=entry_id(place), path=str(place), root=str(root),
        name=own.stem if place.is_file() else own.name,
        title=text(page.get("model_name")) or told.title or _folder_of(place, root),
        base=base or told.base,
        task=text(recipe.get("task")) or _TASKS.get(seen.task or "", text(seen.task).lower()),
        method=text(seen.method), format=seen.format, ranks=seen.ranks[:1000],
        parameters=seen.parameters, bytes=sum(state.st_size for state in states),
        preview=None if preview is None else str(preview),
        sample=_sample(page), description=_described(page) or told.description,
        triggers=texts(page.get("instance_prompt"), split=",") or told.triggers,
        tags=tuple(dict.fromkeys([*texts(page.get("tags")), *told.tags])),
        metrics=numbers(about.metrics), date=_date(told, states),
        run=None if about.run is None else str(about.run),
        source=_source(about.source), problem=text(seen.problem, 400),
    )  # fmt: skip


def _folder_of(place: Path, root: Path) -> str:
    """What is better called by its folder: names that a tool gives to all, and bare versions."""
    if place.parent == root:
        return ""
    above = text(printable(place.parent.name))
    if place.is_file():
        return above if place.stem in _GENERIC else ""
    return f"{above} {place.name}" if _VERSION.fullmatch(place.name) else ""


def _beside(place: Path, seen: Glance) -> _Beside:
    run = run_of(place)
    made = seen.manifest.get("run", {})
    recipe, metrics = made.get("recipe"), made.get("metrics")
    if run is not None and not isinstance(recipe, dict):
        recipe = _yaml(read_some(run / "recipe.yaml", _MOST))
    if run is not None and not isinstance(metrics, dict):
        metrics = _json(read_some(run / "metrics.json", _MOST))
    page = page_of(place)
    return _Beside(
        {} if page is None else _head(page), run,
        recipe if isinstance(recipe, dict) else {}, metrics if isinstance(metrics, dict) else {},
        _json(read_some(SOURCE.of(place), _MOST)),
    )  # fmt: skip


def _head(page: Path) -> Mapping[str, Any]:
    try:
        with page.open("rb") as file:
            data = file.read(front.MOST)
    except OSError:
        return {}
    return front.split(data.decode("utf-8", "replace")).values()


def _yaml(data: bytes | None) -> Mapping[str, Any]:
    try:
        return front.parsed((data or b"").decode())
    except (LibraryError, UnicodeDecodeError):
        return {}


def _json(data: bytes | None) -> Mapping[str, Any]:
    try:
        return read_json(data, "") if data else {}
    except LorakitError:
        return {}


def _first(page: Mapping[str, Any], key: str) -> str:
    return next(iter(texts(page.get(key))), "")


def _described(page: Mapping[str, Any]) -> str:
    return text(page.get("description"), LONGEST_TEXT)


def _sample(page: Mapping[str, Any]) -> str:
    """What the first example of a hub's page shows: its text, and the answer if that is one."""
    widget = page.get("widget")
    first = widget[0] if isinstance(widget, list) and widget else None
    if not isinstance(first, dict):
        return ""
    output = first.get("output")
    answer = text(output.get("text"), LONGEST_TEXT) if isinstance(output, dict) else ""
    asked = text(first.get("text"), LONGEST_TEXT)
    return f"{asked} → {answer}" if asked and answer else asked or answer


def _source(value: Mapping[str, Any]) -> str:
    repo, revision = text(value.get("repo")), text(value.get("revision"))
    return f"{repo}@{revision}" if repo and revision else repo


def _states(place: Path) -> list[os.stat_result]:
    """What the system says of an adapter's files, those of tensors first."""
    paths = [place] if place.is_file() else [Path(own.path) for own in os.scandir(place)]
    ordered = sorted(paths, key=lambda path: (path.suffix not in SINGLE, path.name))
    return [path.stat() for path in ordered if path.is_file()]


def _date(told: Told, states: Iterable[os.stat_result]) -> str:
    """When it was trained, where something says so, else when its tensors were written."""
    moments = [_moment(told.date), *(state.st_mtime for state in states)]
    return next(filter(None, map(_iso, moments)), "")


def _moment(told: str | float | None) -> float | None:
    """Seconds since 1970 of a date in ISO 8601."""
    if not isinstance(told, str):
        return told
    try:
        return datetime.fromisoformat(told.replace("Z", "+00:00")).timestamp()
    except (ValueError, OverflowError, OSError):
        return None


def _iso(moment: float | None) -> str:
    try:
        utc = datetime.fromtimestamp(moment, timezone.utc) if moment else None
    except (OverflowError, OSError, ValueError):
        return ""
    return "" if utc is None else utc.strftime("%Y-%m-%dT%H:%M:%SZ")
