"""What an adapter is by its configs and headers alone: quick, of any format, without a tensor.

Only reading it whole tells whether an adapter is right; a glance is for lists of many.
"""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from torch import Tensor

from lorakit.core.errors import AdapterFileError, LorakitError
from lorakit.formats import FORMATS, cloneofsimo, diffusers, gguf_file, kohya, manifest, own, vera
from lorakit.formats.content import PICKLES, Content
from lorakit.formats.files import PICKLE, TENSORS
from lorakit.formats.manifest import MANIFEST
from lorakit.formats.peft_config import CONFIG, parse_config
from lorakit.formats.tensors import read_json, read_shapes

SINGLE = (".safetensors", ".gguf")  # single files that are read without more ado
MOST_JSON = 2**22  # bytes of a config or a manifest
_MOST_RANK = 2**20
# Ends of the keys of A, whose first axis is the rank, as all formats have them.
_DOWN = (
    ".lora_A.weight", ".lora_embedding_A", ".lora_down.weight", ".lora.down.weight",
    ".lora_linear_layer.down.weight", "_lora.down.weight", ".lora_a.weight", ".lora_A",
    ".weight.lora_a", ":down", ".hada_w1_b", ".lokr_w2_b", ".vera_A",
)  # fmt: skip
_MAGNITUDE = (".lora_magnitude_vector", ".lora_magnitude_vector.weight", ".dora_scale",
              ".magnitude")  # fmt: skip
_PRODUCTS = {".hada_w1_b": "loha", ".lokr_w1": "lokr", ".lokr_w1_b": "lokr"}
_SCALES = (".alpha",)
_IMAGES = (kohya.name, diffusers.name, cloneofsimo.name)

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Glance:
    """What is told of an adapter; `problem` says in words why it could not be read, or more of it.

    `told` are the texts in a single file's header, `manifest` is ours if there is one.
    """

    format: str = ""
    method: str = ""
    ranks: tuple[int, ...] = ()
    parameters: int = 0
    base: str | None = None
    task: str | None = None
    told: Mapping[str, str] = field(default_factory=dict)
    manifest: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""


def glance_folder(folder: str | os.PathLike) -> Glance | None:
    """What is in an adapter's folder, or None where there is neither a config nor a manifest."""
    path = Path(folder)
    seen = Glance()
    try:
        if (path / MANIFEST).is_file():
            seen = _proved(path, manifest.parse(_small(path / MANIFEST), str(path)))
        if (path / CONFIG).is_file():
            return _of_config(path, seen)
        return _of_files(path, seen) if seen.manifest else None
    except LorakitError as error:
        return replace(seen, problem=str(error))


def glance_file(file: str | os.PathLike) -> Glance | None:
    """What is in a single file of tensors, or None where it holds no adapter of a known format."""
    path = Path(file)
    if path.suffix not in SINGLE:
        return None
    try:
        told, shapes = _head(path)
    except gguf_file.NoAdapterError:
        return None
    except LorakitError as error:
        return Glance(problem=str(error))
    # What formats are known by are names alone, and none of these is asked for its values.
    content = Content(str(path), {}, cast(Mapping[str, Tensor], shapes), told)
    form = next((form for form in FORMATS if form.matches(content)), None)
    if form is None:
        return None
    return Glance(
        form.name, _method_of(shapes), _ranks_of(shapes), _numbers_in(shapes), told=told,
        base=told.get("general.base_model.0.name"),
        task="image" if form.name in _IMAGES else None,
    )  # fmt: skip


def _proved(path: Path, found: Mapping[str, Any]) -> Glance:
    """What a manifest says; that the listed files have its sizes is looked at, their bytes not."""
    about, base = found["adapter"], found["base"]
    ranks = about.get("ranks")
    seen = Glance(
        method=_text(about.get("method")) or "",
        ranks=_whole(ranks if isinstance(ranks, list) else ()),
        parameters=next(iter(_whole([about.get("parameters")], most=2**60)), 0),
        base=_text(base.get("name")), task=_text(base.get("task")), manifest=found,
    )  # fmt: skip
    for name, entry in found["files"].items():
        size = entry.get("bytes") if isinstance(entry, dict) else None
        try:
            held = (path / name).stat().st_size if name == Path(name).name else -1
        except (OSError, ValueError):
            held = -1
        if held != size:
            what = "it is not there" if held < 0 else f"it has {held} bytes, not {size}"
            problem = f"{path}/{name} is not what {MANIFEST} lists: {what}. Fetch it again."
            return replace(seen, problem=problem)
    return seen


def _of_config(path: Path, seen: Glance) -> Glance:
    """What the config of a folder says, and the shapes beside it."""
    data, where = _small(path / CONFIG), f"{path}/{CONFIG}"
    raw = read_json(data, where)
    form = next(form for form in FORMATS if form.matches(Content(str(path), {CONFIG: data})))
    kind = raw.get("method" if form is own else "peft_type")
    seen = replace(
        seen, format=form.name, method=seen.method or (_text(kind) or "").lower(),
        base=seen.base or _text(raw.get("base_model_name_or_path")),
        task=seen.task or _text(raw.get("task_type")),
    )  # fmt: skip
    if not (path / TENSORS).is_file():
        pickled = f"; {PICKLE} is a pickle, which is never read" * (path / PICKLE).is_file()
        return replace(seen, problem=f"{path} has no {TENSORS}{pickled}. Fetch or convert it.")
    try:
        shapes, _ = read_shapes(path / TENSORS)
        seen = replace(seen, parameters=seen.parameters or _numbers_in(shapes))
        if form in (own, vera):
            return replace(seen, ranks=seen.ranks or _ranks_of(shapes))
        config = parse_config(raw, where)
    except LorakitError as error:
        return replace(seen, problem=seen.problem or str(error))
    method = "dora" if config.dora else "lora"
    # All experts of a parameter lie in one A, whose rows are no rank: the config's is shown then.
    ranks = (config.rank, *config.rank_pattern.values()) if config.parameters else ()
    return replace(
        seen, method=seen.method if seen.manifest and seen.method else method,
        ranks=seen.ranks or _whole(ranks) or _ranks_of(shapes),
    )  # fmt: skip


def _of_files(path: Path, seen: Glance) -> Glance:
    """What is in the files that a manifest lists, of another format than a folder's."""
    names = sorted(name for name in seen.manifest["files"] if name == Path(name).name)
    pickled = next((name for name in names if name.endswith(PICKLES)), None)
    if pickled is not None:
        form = next((form.name for form in FORMATS if getattr(form, "FILE", "") == pickled), "")
        problem = f"{path}/{pickled} is a pickle, which only `lorakit convert` reads."
        return replace(seen, format=form, problem=seen.problem or problem)
    single = [name for name in names if name.endswith(SINGLE)]
    inside = glance_file(path / single[0]) if len(single) == 1 else None
    if inside is None:
        problem = f"{path}/{MANIFEST} lists no file of an adapter. Fetch it again."
        return replace(seen, problem=seen.problem or problem)
    return replace(
        seen, format=inside.format, method=seen.method or inside.method,
        ranks=seen.ranks or inside.ranks, parameters=seen.parameters or inside.parameters,
        task=seen.task or inside.task, told=inside.told, problem=seen.problem or inside.problem,
    )  # fmt: skip


def _head(path: Path) -> tuple[Mapping[str, str], Shapes]:
    if path.suffix == ".safetensors":
        shapes, told = read_shapes(path)
        return told, shapes
    try:
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:  # a file of nothing cannot be mapped
        raise AdapterFileError(f"{path} cannot be read: {error}. Fetch it again.") from error
    values, shapes = gguf_file.read_shapes(mapped, str(path))
    return {key: str(value) for key, value in values.items()}, shapes


def _small(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MOST_JSON + 1)
    except OSError as error:
        raise AdapterFileError(f"{path} cannot be read: {error}.") from error
    if len(data) > MOST_JSON:
        raise AdapterFileError(f"{path} has more than {MOST_JSON} bytes. Fetch it again.")
    return data


def _ranks_of(shapes: Shapes) -> tuple[int, ...]:
    return _whole(shape[0] for key, shape in shapes.items() if key.endswith(_DOWN) and shape)


def _numbers_in(shapes: Shapes) -> int:
    """How many numbers are trained: without alphas, and the frozen factors that layers share."""
    idle = (*_SCALES, ".vera_A", ".vera_B")
    return sum(math.prod(shape) for key, shape in shapes.items() if not key.endswith(idle))


def _method_of(shapes: Shapes) -> str:
    ends = [end for end in _PRODUCTS if any(key.endswith(end) for key in shapes)]
    if ends:
        return _PRODUCTS[ends[0]]
    return "dora" if any(key.endswith(_MAGNITUDE) for key in shapes) else "lora"


def _whole(values: Iterable[Any], most: int = _MOST_RANK) -> tuple[int, ...]:
    numbers = {v for v in values if isinstance(v, int) and not isinstance(v, bool)}
    return tuple(sorted(number for number in numbers if 0 < number <= most))


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
