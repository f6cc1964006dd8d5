"""A base with adapters on it, loaded once to be asked: what `generate` and `predict` share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from lorakit.core.errors import AdapterFileError, ModelError
from lorakit.core.registry import require_registry
from lorakit.formats.files import read_folder
from lorakit.formats.load import load
from lorakit.formats.manifest import MANIFEST, read
from lorakit.formats.peft import CONFIG
from lorakit.formats.tensors import read_json
from lorakit.models.load import load_base, load_tokenizer, pick_device
from lorakit.models.quantise import LIBRARIES

BASE = "base"
# What of a manifest's record of the run is used here, and what it may be.
_RECORD: dict[str, tuple[type, ...]] = {
    "recipe": (dict,), "recipe.train": (dict,), "recipe.data": (dict,),
    "recipe.train.quantise": (str,), "labels": (list, type(None)),
    **dict.fromkeys(
        ("end", "recipe.task", "recipe.data.prompt", "recipe.data.benchmark",
         "recipe.data.chat_template"), (str, type(None)),
    ),
}  # fmt: skip


@dataclass
class Session:
    """A model, its tokenizer, and the names of the voices that can answer: base or adapters."""

    model: Any
    tokenizer: Any
    voices: dict[str, str | None] = field(default_factory=dict)  # label -> adapter, None is base
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)  # label -> its manifest's run
    labels: list[str] | None = None


class Needs(NamedTuple):
    """The model that adapters need: its name, its kind and labels, and how it was kept."""

    base: str
    kind: str
    labels: tuple[str, ...] | None
    quantise: str


def needs_of(adapters: Sequence[str], *, model: str | None = None) -> Needs:
    """What the manifests and configs of adapters say about their base, or `ModelError`."""
    known = [about(adapter_folder(place)) for place in adapters]
    name = model or next((base for base, _, _ in known if base), None)
    if name is None:
        raise ModelError("Which base? No adapter here names one. Pass --model FOLDER.")
    labels = next((run["labels"] for _, _, run in known if run.get("labels") is not None), None)
    return Needs(name, _kind(known), None if labels is None else tuple(labels), _quantised(known))


def open_session(
    adapters: Sequence[str], *, model: str | None = None, kind: str | None = None,
    with_base: bool = False, precision: str = "fp32", quantise: str | None = None,
    device: str = "auto",
) -> Session:  # fmt: skip
    """Load a base and put adapters on it; all of them come from their manifests if left open.

    `kind` is "causal", "seq2seq" or "classes"; `quantise` is as in a recipe. Raises
    `ModelError` where the base is not known.
    """
    folders = [adapter_folder(place) for place in adapters]
    known = [about(folder) for folder in folders]
    needs = needs_of(adapters, model=model)
    labels = None if needs.labels is None else list(needs.labels)
    tokenizer = load_tokenizer(needs.base)
    base = load_base(
        needs.base, kind or needs.kind, labels=labels, precision=precision,
        quantise=quantise or needs.quantise, device=pick_device(device),
        padding=tokenizer.pad_token_id,
    )  # fmt: skip
    session = Session(base.model.eval(), tokenizer, labels=labels)
    if with_base or not folders:
        _check_head(base.fresh, (), "The base")
        session.voices[BASE] = None
    for folder, (_, _, run) in zip(folders, known):
        label = _label(folder, session.voices)
        load(session.model, folder, name=label)
        replaced = require_registry(session.model).entry(label).replaced
        _check_head(base.fresh, replaced, str(folder))
        session.voices[label] = label
        session.runs[label] = run
    return session


def _check_head(fresh: Sequence[str], replaced: Sequence[str], who: str) -> None:
    """Raise `ModelError` for a voice whose answers would come from a head that nobody trained."""
    inside = tuple(f"{path}." for path in replaced)
    untrained = [path for path in fresh if not f"{path}.".startswith(inside)]
    if untrained:
        raise ModelError(
            f"{who} has no trained {untrained[0]!r}, so its answers would be random. Name an "
            "adapter that was trained with this head, and leave out --with-base."
        )


def adapter_folder(place: str) -> Path:
    """The adapter's folder: the place itself, or the adapter in a run's folder."""
    path = Path(place).expanduser()
    inside = path / "adapter"
    return inside if not (path / CONFIG).exists() and (inside / CONFIG).exists() else path


def about(folder: Path) -> tuple[str | None, str | None, dict[str, Any]]:
    """The base's name, its task in PEFT's words, and the manifest's record of the run.

    A file of another tool says none of them.
    """
    if folder.is_file():
        return None, None, {}
    files, where = read_folder(folder)
    if CONFIG not in files:
        raise AdapterFileError(f"{where} holds no adapter: it lacks {CONFIG}. Check the path.")
    config = read_json(files[CONFIG], f"{where}/{CONFIG}")
    run = (read(files, where) or {}).get("run", {})
    _check_run(run, where)
    base, task = (config.get(key) for key in ("base_model_name_or_path", "task_type"))
    return (
        (base if isinstance(base, str) else None), (task if isinstance(task, str) else None), run,
    )  # fmt: skip


def _check_run(run: dict[str, Any], where: str) -> None:
    """Raise `AdapterFileError` for a record that no training of ours writes: anybody may have."""
    for name, kind in _RECORD.items():
        *parents, last = name.split(".")
        part = run
        for parent in parents:
            part = part.get(parent, {})  # which stands before its own parts in the table
        if last in part and not isinstance(part[last], kind):
            raise AdapterFileError(
                f"{where}/{MANIFEST}: run.{name} is a {type(part[last]).__name__}, which training "
                "never writes there. Fetch the adapter again, or delete the file."
            )
    if not all(isinstance(label, str) for label in run.get("labels") or ()):
        raise AdapterFileError(f"{where}/{MANIFEST}: run.labels are no texts. Delete the file.")
    way = run.get("recipe", {}).get("train", {}).get("quantise", "none")
    if way not in ("none", *LIBRARIES):
        raise AdapterFileError(
            f"{where}/{MANIFEST}: train.quantise is {way[:60]!r}; expected none or "
            f"{' or '.join(LIBRARIES)}. Delete the file to load the adapter without it."
        )


def _kind(known: Sequence[tuple[str | None, str | None, dict[str, Any]]]) -> str:
    kinds = {"CAUSAL_LM": "causal", "SEQ_2_SEQ_LM": "seq2seq", "SEQ_CLS": "classes"}
    return next((kinds[task] for _, task, _ in known if task in kinds), "causal")


def _quantised(known: Sequence[tuple[str | None, str | None, dict[str, Any]]]) -> str:
    """How the base was kept when the adapters were trained on it; where they differ, in full."""
    ways = {run.get("recipe", {}).get("train", {}).get("quantise", "none") for *_, run in known}
    return ways.pop() if len(ways) == 1 else "none"


def _label(folder: Path, taken: dict[str, str | None]) -> str:
    """A name to show: the folder's, or its run's, as all runs call their adapter the same."""
    parts = [part for part in folder.resolve().parts if part not in ("adapter", "/")]
    label = parts[-1] if parts else "adapter"
    used = {word.casefold() for word in taken}
    number = 2
    while label.casefold() in used:
        label, number = f"{parts[-1]} ({number})", number + 1
    return label
