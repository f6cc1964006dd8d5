"""torchtune's adapters: `layers.0.attn.q_proj.lora_a.weight` (rank, in) and `lora_b.weight`.

A checkpoint of tensors by name (`adapter_0.pt`, `adapter_model.pt`), with `magnitude` (out,) for
DoRA; alpha stands in the training's recipe alone. Query and key of its Llama, Mistral and Gemma
have Meta's order of rows, those of its Qwen the order of Hugging Face (torchtune,
models/convert_weights.py and models/qwen2/_convert_weights.py). Folders that torchtune writes in
PEFT's form are PEFT's.
"""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lorakit.core.errors import AdapterFileError, UnsupportedError, shortlist
from lorakit.core.state import AdapterState, LowRankState
from lorakit.formats.content import Content, Options
from lorakit.formats.heads import Base, Modules, known_base, to_halves, to_pairs
from lorakit.formats.names import in_all_layers, look_up
from lorakit.formats.pairs import by_module, common_alpha, filled, needed_alpha, put, update_of

name = "torchtune"
FILE = "adapter_model.pt"
_SUFFIXES = {".lora_a.weight": "A", ".lora_b.weight": "B", ".magnitude": "magnitude"}
_PATHS = {
    "layers.{}.attn.q_proj": "model.layers.{}.self_attn.q_proj",
    "layers.{}.attn.k_proj": "model.layers.{}.self_attn.k_proj",
    "layers.{}.attn.v_proj": "model.layers.{}.self_attn.v_proj",
    "layers.{}.attn.output_proj": "model.layers.{}.self_attn.o_proj",
    "layers.{}.mlp.w1": "model.layers.{}.mlp.gate_proj",
    "layers.{}.mlp.w2": "model.layers.{}.mlp.down_proj",
    "layers.{}.mlp.w3": "model.layers.{}.mlp.up_proj",
    "output": "lm_head",
}
_NAMES = {path: module for module, path in _PATHS.items()}
_MLP = [path for module, path in _PATHS.items() if ".mlp." in module]
_GROUPS = [_MLP, *([path] for path in _NAMES if path not in _MLP)]  # a switch of its recipe each
_TURNED = ("layers.{}.attn.q_proj", "layers.{}.attn.k_proj")
# Family -> whether its rotary embedding turns neighbours, as Meta's does.
_FAMILIES = {"llama": True, "mistral": True, "gemma": True, "gemma2": True, "qwen2": False}


def matches(content: Content) -> bool:
    """Whether some tensor is a factor with torchtune's name."""
    return any(key.endswith(".lora_a.weight") for key in content.tensors)


def load(content: Content, modules: Modules | None, options: Options) -> AdapterState:
    """The adapter in a file; `options` say its alpha, the base how its rows stand."""
    where = content.where
    alpha = needed_alpha(options, name, where)
    base = known_base(modules, name, _FAMILIES)
    state = AdapterState({})
    for key, parts in by_module(content.tensors, _SUFFIXES, where).items():
        general, path = look_up(key, _PATHS)
        if "?" in parts or not path:
            raise AdapterFileError(
                f"{where} has a tensor {key!r}, which no adapter of torchtune has for a text model "
                f"({shortlist(_PATHS, 3)}, ...). Pass the file of the adapter alone."
            )
        low = update_of(path, parts, where, alpha=alpha)
        if low.kernel or (low.magnitude is not None and len(low.magnitude) != len(low.B)):
            raise AdapterFileError(
                f"{where}: {key!r} has factors or magnitudes of shapes that a linear layer has "
                "not. Fetch the adapter again."
            )
        turned = _turned(general, base)
        put(state.low_rank, path, _rows(low, base, path, to_halves) if turned else low, where)
    magnitudes = {low.magnitude is not None for low in state.low_rank.values()}
    if len(magnitudes) > 1:
        raise UnsupportedError(f"{where} has magnitudes for some modules and not for others.")
    state.method = "dora" if magnitudes == {True} else "lora"
    return state


def save(state: AdapterState, modules: Modules | None, options: Options) -> dict[str, bytes]:
    """The file. torchtune builds a model with one rank and alpha, so all modules get the same.

    It also adapts the same modules in all layers: those that the adapter leaves as they are get
    zeros (but with DoRA, whose magnitudes would be the base's weights).
    """
    del options
    base = known_base(modules, name, _FAMILIES)
    odd = [path for path in state.low_rank if not look_up(path, _NAMES)[1]]
    if odd:
        raise UnsupportedError(
            f"torchtune has no adapter for {shortlist(odd)} of a {base.family!r}. Convert to peft."
        )
    rank = _rank(state)
    whole = state if state.method == "dora" else in_all_layers(state, modules, _GROUPS)
    alpha = common_alpha(whole, rank)
    tensors: dict[str, Tensor] = {}
    for path, low in whole.low_rank.items():
        module = look_up(path, _NAMES)[1]
        own = filled(low, rank, whole.scale(low) * rank / alpha)
        if _turned(look_up(module, _PATHS)[0], base):
            own = _rows(own, base, path, to_pairs)
        tensors[f"{module}.lora_a.weight"], tensors[f"{module}.lora_b.weight"] = own.A, own.B
        if own.magnitude is not None:
            tensors[f"{module}.magnitude"] = own.magnitude
    file = io.BytesIO()
    torch.save({key: value.contiguous() for key, value in tensors.items()}, file)
    return {FILE: file.getvalue()}


def untold(state: AdapterState, modules: Modules | None) -> dict[str, Any]:
    """The alpha that the file's reader has to be told, and torchtune's recipe as `lora_alpha`."""
    del modules
    return {"alpha": common_alpha(state, _rank(state))}


def _rank(state: AdapterState) -> int:
    return max(low.rank for low in state.low_rank.values())


def _turned(general: str, base: Base) -> bool:
    return general in _TURNED and _FAMILIES[base.family]


def _rows(low: LowRankState, base: Base, path: str, order: Any) -> LowRankState:
    """The update with the rows of B, and DoRA's magnitudes, in another order."""
    magnitude = None if low.magnitude is None else order(low.magnitude, base.size, path)
    return replace(low, B=order(low.B, base.size, path), magnitude=magnitude)
