"""diffusers' `pytorch_lora_weights.safetensors`: all parts of a pipeline, by their own paths.

Keys begin with the part (`unet.`, `transformer.`, `text_encoder.`; none at all in old files for a
U-Net). Behind the module's path stand PEFT's names, those of diffusers, or those of its attention
processors before 2023, also mixed. Alphas are in the metadata, as PEFT's config for each part;
without it alpha is the rank.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from typing import Any

import safetensors.torch
from torch import Tensor

from lorakit.core.errors import AdapterFileError, UnsupportedError, shortlist
from lorakit.core.state import AdapterState, LowRankState
from lorakit.formats import peft
from lorakit.formats.components import part_of, refuse_tables
from lorakit.formats.content import PARTS, Content, Options
from lorakit.formats.pairs import alpha_numbers, by_module, put, update_of
from lorakit.formats.peft_config import PeftConfig, parse_config
from lorakit.formats.tensors import read_json

name = "diffusers"
FILE = "pytorch_lora_weights.safetensors"
_METADATA = "lora_adapter_metadata"
_SUFFIXES = {
    ".lora_A.weight": "A", ".lora_B.weight": "B",
    ".lora.down.weight": "A", ".lora.up.weight": "B",
    ".lora_linear_layer.down.weight": "A", ".lora_linear_layer.up.weight": "B",
    "_lora.down.weight": "A", "_lora.up.weight": "B",
    ".lora_magnitude_vector.weight": "magnitude", ".lora_magnitude_vector": "magnitude",
    ".alpha": "alpha",
}  # fmt: skip
# The ends of attention processors' names -> those of the layers, in U-Nets and in CLIP.
_PROCESSOR = {"to_q": "to_q", "to_k": "to_k", "to_v": "to_v", "to_out": "to_out.0"}
_CLIP = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}


def matches(content: Content) -> bool:
    """Whether some tensor has one of the names, and none is PEFT's own."""
    ends = tuple(end for end, kind in _SUFFIXES.items() if kind in "AB")
    ours = [key for key in content.tensors if key.endswith(ends)]
    return bool(ours) and not any(key.startswith("base_model.model.") for key in ours)


def load(content: Content, modules: Collection[str] | None, options: Options) -> AdapterState:
    """The adapter in a file; paths begin with the part of the pipeline that they are in.

    Scales become plain alphas, because each part has its own config.
    """
    where = content.where
    alpha_numbers(content.tensors, ".alpha", where)
    state = AdapterState({}, origin={"metadata": dict(content.metadata)})
    told = _configs(content)
    for key, parts in by_module(content.tensors, _SUFFIXES, where).items():
        if "?" in parts:
            raise AdapterFileError(f"{where} has a tensor {key!r}, which no such file has.")
        component, inside = part_of(_path(key), options)
        path = f"{component}.{inside}"
        config = told.get(component) or told.get("")
        low = update_of(path, parts, where, alpha=config and config.alpha_of(inside))
        if config is not None:
            _check_told(path, inside, low, config, where)
            low.alpha *= math.sqrt(low.rank) if config.rslora else 1
        put(state.low_rank, path, low, where)
    for part, config in told.items():
        _check_targets(part, config, state, modules, options, where)
    magnitudes = {low.magnitude is not None for low in state.low_rank.values()}
    if len(magnitudes) > 1:
        raise UnsupportedError(f"{where} has magnitudes for some modules and not for others.")
    state.method = "dora" if magnitudes == {True} else "lora"
    return state


def save(
    state: AdapterState, modules: Collection[str] | None, options: Options
) -> dict[str, bytes]:
    """The file, with PEFT's names and a config for each part in the metadata."""
    del modules
    refuse_tables(state, name)
    tensors: dict[str, Tensor] = {}
    metadata: dict[str, Any] = {}
    by_part: dict[str, dict[str, Any]] = {}
    for path, low in state.low_rank.items():
        component, inside = part_of(path, options)
        by_part.setdefault(component, {})[inside] = low
    for component, low_rank in by_part.items():
        own = AdapterState(low_rank, method=state.method, rslora=state.rslora)
        tensors.update(peft.named_tensors(own, prefix=f"{component}."))
        config = peft.config_of(own, None)
        metadata.update({f"{component}.{key}": value for key, value in config.items()})
    packed = json.dumps(metadata, indent=2, sort_keys=True)
    return {FILE: safetensors.torch.save(tensors, metadata={"format": "pt", _METADATA: packed})}


def _configs(content: Content) -> dict[str, PeftConfig]:
    """PEFT's config for each part, where the metadata hold them."""
    if _METADATA not in content.metadata:
        return {}
    here = f"{content.where}: {_METADATA}"
    raw: dict[str, dict[str, Any]] = {}
    for key, value in read_json(content.metadata[_METADATA].encode(), here).items():
        component, _, field = key.partition(".")
        if component not in PARTS:  # the file of a single part does not name it
            component, field = "", key
        raw.setdefault(component, {})[field] = value
    return {part: parse_config({"peft_type": "LORA", **own}, here) for part, own in raw.items()}


def _check_told(path: str, inside: str, low: LowRankState, config: PeftConfig, where: str) -> None:
    if config.rank_of(inside) != low.rank or config.dora != (low.magnitude is not None):
        raise AdapterFileError(
            f"{where}: the metadata give {path!r} rank {config.rank_of(inside)}"
            f"{' and DoRA' * config.dora}, its tensors have {low.rank}"
            f"{' and a magnitude' * (low.magnitude is not None)}. They are not of one adapter."
        )


def _check_targets(
    part: str, config: PeftConfig, state: AdapterState, modules: Collection[str] | None,
    options: Options, where: str,
) -> None:  # fmt: skip
    """Modules that the metadata target and the file lacks, where the base is known."""
    parts = {path.partition(".")[0] for path in state.low_rank}
    if not part and len(parts) == 1:
        part = next(iter(parts))
    inside = [p.removeprefix(f"{part}.") for p in modules or () if p.startswith(f"{part}.")]
    if not inside and (parts == {part} or options.component == part):
        inside = list(modules or ())
    have = {path.removeprefix(f"{part}.").replace("text_model.", "") for path in state.low_rank}
    missing = [
        p for p in inside if config.is_target(p) and p.replace("text_model.", "") not in have
    ]
    if config.targets and missing:
        raise AdapterFileError(
            f"{where} has no tensors for {shortlist(map(repr, missing))}, which its metadata "
            "target: the file is not whole, or made for another base. Fetch it again."
        )


def _path(key: str) -> str:
    """The module's path behind the key's stem."""
    path = key
    above, _, leaf = key.rpartition(".")
    if leaf in _PROCESSOR:
        if above.endswith(".processor"):
            path = f"{above.removesuffix('.processor')}.{_PROCESSOR[leaf]}"
        elif above.endswith(".self_attn"):
            path = f"{above}.{_CLIP[leaf]}"
    return path
