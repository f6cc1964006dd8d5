"""llama.cpp's adapters: GGUF with `blk.0.attn_q.weight.lora_a` (rank, in) and `lora_b` (out, rank).

Names are those of the base's tensors, by architecture (the `gguf` package, tensor_mapping.py). One
alpha holds for all; each scale is alpha / its own rank, and 1 where alpha is missing or 0
(src/llama-adapter.h). Llama's query and key have Meta's order of rows, GPT-NeoX' fused ones stand
in blocks (conversion/llama.py, gpt_neox.py), and `token_embd`'s A is transposed
(convert_lora_to_gguf.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from lorakit.core.errors import AdapterFileError, BaseMismatchError, UnsupportedError, shortlist
from lorakit.core.state import AdapterState, LowRankState
from lorakit.formats import gguf_file
from lorakit.formats.content import Content, Options
from lorakit.formats.gguf_names import FAMILIES, Architecture
from lorakit.formats.heads import Base, Modules, base_of, known_base
from lorakit.formats.names import look_up
from lorakit.formats.pairs import by_module, common_alpha, filled, put, update_of

name = "gguf"
FILE = "adapter.gguf"
_SUFFIXES = {".weight.lora_a": "A", ".weight.lora_b": "B"}
_ALPHA = "adapter.lora.alpha"
# Values of `adapter.` that change nothing of what the factors do.
_IDLE = ("adapter.type", _ALPHA, "adapter.lora.task_name", "adapter.lora.prompt_prefix")


def matches(content: Content) -> bool:
    """Whether the file is a GGUF."""
    return "general.architecture" in content.metadata


def load(content: Content, modules: Modules | None, options: Options) -> AdapterState:
    """The adapter in a file. Where rows must be put in order, the base says the size of a head."""
    del options
    where, told = content.where, content.metadata
    base = base_of(modules)
    form = _architecture(told, base, where)
    size = _whole(told.get(f"{form.name}.attention.key_length"))
    if base and size not in (None, base.size):
        raise BaseMismatchError(
            f"{where} is for heads of {size}; this model has heads of {base.size}. Load the "
            "adapter on the base it was trained on."
        )
    size = base.size if base else size
    odd = [key for key in told if key.startswith("adapter.") and key not in _IDLE]
    if odd or told.get("adapter.type") != "lora":
        raise UnsupportedError(
            f"{where} is an adapter of the type {told.get('adapter.type')!r}"
            f"{f' with {shortlist(odd)}' if odd else ''}; supported is 'lora'. Use llama.cpp."
        )
    alpha = _alpha(told, where)
    state = AdapterState({})
    for key, parts in by_module(content.tensors, _SUFFIXES, where).items():
        tensor, path = look_up(key, form.paths)
        if "?" in parts or not path:
            raise UnsupportedError(
                f"{where} has a tensor {key!r}, which is no factor of a matrix of {form.name!r} "
                "(llama.cpp itself passes over trained norms). Convert the adapter that it was "
                "made from."
            )
        put(state.low_rank, path, _update(tensor, path, parts, alpha, where), where)
        if tensor in form.rows:
            low = state.low_rank[path]
            low.B = form.rows[tensor][1](low.B, _needed(size, where), path)
    return state


def save(state: AdapterState, modules: Modules | None, options: Options) -> dict[str, bytes]:
    """The file. Raises `UnsupportedError` for what llama.cpp's graphs have no place for."""
    del options
    base = known_base(modules, name, FAMILIES)
    form = FAMILIES[base.family]
    tensors = {path: tensor for tensor, path in form.paths.items()}
    names = {path: look_up(path, tensors) for path in state.low_rank}
    _refuse(state, base, {path: tensor for path, (_, tensor) in names.items()})
    alpha = common_alpha(state)
    if not 1e-30 < abs(alpha) < 1e30:  # it is a float32 there, and 0 means none
        raise UnsupportedError(f"GGUF has no place for the alpha {alpha:g}. Convert to peft.")
    found: dict[str, Tensor] = {}
    for path, low in state.low_rank.items():
        general, tensor = names[path]
        own = filled(low, low.rank, state.scale(low) * low.rank / alpha)
        A, B = own.A, own.B
        if tensors[general] in form.rows:
            B = form.rows[tensors[general]][0](B, base.size, path)
        found[f"{tensor}.weight.lora_a"] = A.T if low.geometry == "embedding" else A
        found[f"{tensor}.weight.lora_b"] = B
    values: dict[str, str | int | float] = {
        "general.architecture": form.name, "general.type": "adapter", "adapter.type": "lora",
        _ALPHA: alpha,
        # llama.cpp does not ask for it; with it, the file can be read again without its base.
        f"{form.name}.attention.key_length": base.size,
    }  # fmt: skip
    return {FILE: gguf_file.write(values, found)}


def _refuse(state: AdapterState, base: Base, names: Mapping[str, str]) -> None:
    unnamed = [path for path, tensor in names.items() if not tensor]
    shared = [path for path, tensor in names.items() if tensor in ("token_embd", "output")]
    lows = state.low_rank.values()
    reasons = {
        f"{base.family!r} has no tensor there for {shortlist(unnamed)}": bool(unnamed),
        "it is a DoRA": any(low.magnitude is not None for low in lows),
        "it changes convolutions": any(low.kernel for low in lows),
        # One tensor serves as both there, and its graph would apply the factors twice.
        f"the base ties its head to its table, and {shortlist(shared)} is one of the two": (
            bool(shared) and base.tied
        ),
    }
    found = [reason for reason, holds in reasons.items() if holds]
    if found:
        raise UnsupportedError(
            f"llama.cpp cannot hold this adapter: {'; '.join(found)}. Merge it into its base "
            "(`lorakit merge`) and convert the merged model."
        )


def _architecture(told: Mapping[str, str], base: Base | None, where: str) -> Architecture:
    named = told["general.architecture"]
    form = next((form for form in FAMILIES.values() if form.name == named), None)
    if form is None:
        known = sorted({form.name for form in FAMILIES.values()})
        raise UnsupportedError(
            f"{where} is for the architecture {named!r}; known are {shortlist(known, 9)}. Convert "
            "the adapter that it was made from."
        )
    if base is not None and FAMILIES.get(base.family) != form:
        raise BaseMismatchError(
            f"{where} is for the architecture {named!r}, and this model is a {base.family!r}. Load "
            "the adapter on the base it was trained on."
        )
    return form


def _update(
    tensor: str, path: str, parts: Mapping[str, Tensor], alpha: float, where: str
) -> LowRankState:
    """The factors of one tensor; ggml leaves out axes of length 1 at the end."""
    flat = {kind: value[None] if value.dim() == 1 else value for kind, value in parts.items()}
    if any(value.dim() != 2 for value in flat.values()):
        raise UnsupportedError(
            f"{where}: {path!r} has stacked factors (of experts). Use llama.cpp."
        )
    if tensor == "token_embd" and "A" in flat:
        low = update_of(path, {**flat, "A": flat["A"].T.contiguous()}, where)
        low = replace(low, geometry="embedding")
    else:
        low = update_of(path, flat, where)
    return replace(low, alpha=alpha or float(low.rank))


def _alpha(told: Mapping[str, str], where: str) -> float:
    try:
        alpha = float(told.get(_ALPHA, "0"))
    except ValueError:
        alpha = math.nan
    if not math.isfinite(alpha):
        raise AdapterFileError(
            f"{where} has the alpha {told.get(_ALPHA)!r}; expected a finite number. Fetch it again."
        )
    return alpha


def _whole(text: str | None) -> int | None:
    return int(text) if text and len(text) < 10 and text.isascii() and text.isdigit() else None


def _needed(size: int | None, where: str) -> int:
    if size is None:
        raise UnsupportedError(
            f"{where} has rows in the order of llama.cpp, and does not say the size of a head. "
            "Pass the base model, model=... or --model; its structure is enough."
        )
    return size
