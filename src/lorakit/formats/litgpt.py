"""litgpt's adapters: `transformer.h.0.attn.qkv.lora_A` and `lora_B`, under litgpt's own names.

`lit_model.pth.lora` is {"model": tensors}. Query, key and value are one layer (`blocks.py`); which
of them are adapted, and alpha, is in the hyperparameters.yaml beside it. Rows of heads stand as
Hugging Face has them, only GPT-NeoX' stand in blocks as well (litgpt, litgpt/lora.py and
scripts/convert_hf_checkpoint.py). Older files, with `attn.attn`, put B of three blocks onto rows in
the order of groups: they are refused.
"""

from __future__ import annotations

import io
from typing import Any

import torch
from torch import Tensor

from lorakit.core.errors import AdapterFileError, UnsupportedError, shortlist
from lorakit.core.state import AdapterState, LowRankState
from lorakit.formats.blocks import changed_blocks, cut, from_blocks, nothing
from lorakit.formats.content import Content, Options
from lorakit.formats.heads import Base, Modules, known_base
from lorakit.formats.names import in_all_layers, look_up
from lorakit.formats.pairs import by_module, common_alpha, filled, needed_alpha, put, update_of

name = "litgpt"
FILE = "lit_model.pth.lora"
_SUFFIXES = {".lora_A": "A", ".lora_B": "B"}
_QKV, _OLD = "transformer.h.{}.attn.qkv", "transformer.h.{}.attn.attn"
_LLAMA = {
    "transformer.h.{}.attn.proj": "model.layers.{}.self_attn.o_proj",
    "transformer.h.{}.mlp.fc_1": "model.layers.{}.mlp.gate_proj",
    "transformer.h.{}.mlp.fc_2": "model.layers.{}.mlp.up_proj",
    "transformer.h.{}.mlp.proj": "model.layers.{}.mlp.down_proj",
    "lm_head": "lm_head",
}
_NEOX = {
    "transformer.h.{}.attn.proj": "gpt_neox.layers.{}.attention.dense",
    "transformer.h.{}.mlp.fc": "gpt_neox.layers.{}.mlp.dense_h_to_4h",
    "transformer.h.{}.mlp.proj": "gpt_neox.layers.{}.mlp.dense_4h_to_h",
    "lm_head": "lm_head",
}
# What one layer is there: three of ours, or a fused one.
_PARTS = tuple(f"model.layers.{{}}.self_attn.{leaf}_proj" for leaf in "qkv")
_FUSED = ("gpt_neox.layers.{}.attention.query_key_value",)
_ROPED = ("llama", "mistral", "gemma", "gemma2", "gemma3_text", "qwen2", "qwen3")
_FAMILIES = {**dict.fromkeys(_ROPED, (_LLAMA, _PARTS)), "gpt_neox": (_NEOX, _FUSED)}


def matches(content: Content) -> bool:
    """Whether some factor has a name of litgpt's layers."""
    known = {_QKV, _OLD, *_LLAMA, *_NEOX} - {"lm_head"}
    stems = {key.removesuffix(".lora_A") for key in content.tensors if key.endswith(".lora_A")}
    return any(look_up(stem, dict.fromkeys(known, "x"))[1] for stem in stems)


def load(content: Content, modules: Modules | None, options: Options) -> AdapterState:
    """The adapter in a file; `options` say its alpha and blocks, the base the size of heads."""
    where = content.where
    alpha = needed_alpha(options, name, where)
    base = known_base(modules, name, _FAMILIES)
    table, qkv = _FAMILIES[base.family]
    state = AdapterState({})
    for key, parts in by_module(content.tensors, _SUFFIXES, where).items():
        general, path = look_up(key, {**table, _QKV: "{}", _OLD: "{}"})
        if "?" in parts or not path:
            raise AdapterFileError(
                f"{where} has a tensor {key!r}, which no adapter of litgpt has for a "
                f"{base.family!r}. Pass the base that it was trained on."
            )
        if general == _OLD:
            raise UnsupportedError(
                f"{where} has {key!r}, the name of older releases of litgpt, which ordered rows "
                "otherwise. Merge it with the release that it was trained with."
            )
        if any(value.dim() != 2 or not value.numel() for value in parts.values()):
            raise AdapterFileError(f"{where}: {key!r} has no factors of a linear layer.")
        if general != _QKV:
            put(state.low_rank, path, update_of(path, parts, where, alpha=alpha), where)
            continue
        blocks = cut(key, parts, base, options, where)
        for own, low in from_blocks(blocks, base, [p.format(path) for p in qkv], alpha).items():
            put(state.low_rank, own, low, where)
    return state


def save(state: AdapterState, modules: Modules | None, options: Options) -> dict[str, bytes]:
    """The file. litgpt has one rank and alpha, and adapts the same modules in all layers.

    Its LoRA modules that the adapter leaves as they are get zeros.
    """
    del options
    base = known_base(modules, name, _FAMILIES)
    plain = _pieces(state, modules, base)
    enabled, rank = _enabled(plain), _rank(plain)
    alpha = common_alpha(plain, rank)
    tensors: dict[str, Tensor] = {}
    for key in plain.low_rank:
        module, _, block = key.partition(":")
        pieces = [f"{module}:{place}" for place in enabled] if block else [key]
        lows = [plain.low_rank[piece] for piece in pieces]
        own = [filled(low, rank, plain.scale(low) * rank / alpha) for low in lows]
        tensors[f"{module}.lora_A"] = torch.cat([low.A for low in own])
        tensors[f"{module}.lora_B"] = torch.cat([low.B for low in own])
    file = io.BytesIO()
    torch.save({"model": {key: value.contiguous() for key, value in tensors.items()}}, file)
    return {FILE: file.getvalue()}


def untold(state: AdapterState, modules: Modules | None) -> dict[str, Any]:
    """The alpha and the enabled blocks that the file's reader has to be told."""
    plain = _pieces(state, modules, known_base(modules, name, _FAMILIES))
    enabled = _enabled(plain)
    told: dict[str, Any] = {"alpha": common_alpha(plain, _rank(plain))}
    return told | ({"enabled": tuple(place in enabled for place in range(3))} if enabled else {})


def _rank(plain: AdapterState) -> int:
    return max(low.rank for low in plain.low_rank.values())


def _enabled(plain: AdapterState) -> list[int]:
    """The blocks that some layer has."""
    return sorted({int(key.partition(":")[2]) for key in plain.low_rank if ":" in key})


def _pieces(state: AdapterState, modules: Modules | None, base: Base) -> AdapterState:
    """The adapter under litgpt's names, a block of a `qkv` as `name:0` to `name:2`."""
    table, qkv = _FAMILIES[base.family]
    names = {path: module for module, path in table.items()}
    names |= {path: f"{_QKV}:{place}" for place, path in enumerate(qkv)}
    unnamed = [path for path in state.low_rank if not look_up(path, names)[1]]
    if unnamed or any(low.magnitude is not None for low in state.low_rank.values()):
        why = f"{shortlist(unnamed)} of a {base.family!r}" if unnamed else "magnitudes (DoRA)"
        raise UnsupportedError(f"litgpt has no adapter for {why}. Convert to peft.")
    mlp = [path for module, path in table.items() if ".mlp." in module]
    groups = [mlp, *([path] for path in names if path not in mlp)]  # a switch of litgpt each
    found: dict[str, LowRankState] = {}
    stems: dict[str, LowRankState] = {}
    for path, low in in_all_layers(state, modules, groups).low_rank.items():
        module, _, block = look_up(path, names)[1].partition(":")
        if not block:
            found[module] = low
            continue
        stems[module] = low
        blocks = {int(block): low} if len(qkv) == 3 else changed_blocks(low, base, path)
        found |= {f"{module}:{place}": own for place, own in blocks.items()}
    for module, low in stems.items():
        for place in _enabled(AdapterState(found)) or range(3):
            found.setdefault(f"{module}:{place}", nothing(low, base.blocks[place]))
    return AdapterState(found)
