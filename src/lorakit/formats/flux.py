"""Flux by diffusers' names and by its own code's, where query, key, value and more are one layer.

The parts of such a layer have the same A, and their own rows of B: the change is the same, to the
last bit. kohya's files have the names of Flux's code.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from lorakit.core.state import LowRankState

NAMES = "flux"
_DOUBLE, _SINGLE = "transformer_blocks", "single_transformer_blocks"
# A layer of a block -> diffusers', several where it is fused.
_LAYERS = {
    "double_blocks": {
        "img_attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
        "txt_attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
        "img_attn.proj": ("attn.to_out.0",), "txt_attn.proj": ("attn.to_add_out",),
        "img_mlp.0": ("ff.net.0.proj",), "img_mlp.2": ("ff.net.2",),
        "txt_mlp.0": ("ff_context.net.0.proj",), "txt_mlp.2": ("ff_context.net.2",),
        "img_mod.lin": ("norm1.linear",), "txt_mod.lin": ("norm1_context.linear",),
    },
    "single_blocks": {
        "linear1": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),
        "linear2": ("proj_out",), "modulation.lin": ("norm.linear",),
    },
}  # fmt: skip
_BLOCKS = {"double_blocks": _DOUBLE, "single_blocks": _SINGLE}
_SWAPPED = "final_layer.adaLN_modulation.1"  # shift, then scale; diffusers has them the other way
_ALONE = {
    "img_in": "x_embedder", "txt_in": "context_embedder",
    "final_layer.linear": "proj_out", _SWAPPED: "norm_out.linear",
    **{f"{theirs}.{side}_layer": f"time_text_embed.{own}.linear_{number}"
       for theirs, own in (("time_in", "timestep_embedder"), ("guidance_in", "guidance_embedder"),
                           ("vector_in", "text_embedder"))
       for side, number in (("in", 1), ("out", 2))},
}  # fmt: skip
_ALONE_BACK = {own: theirs for theirs, own in _ALONE.items()}
_LAYERS_BACK = {
    f"{_BLOCKS[blocks]}.{own}": (blocks, layer)
    for blocks, layers in _LAYERS.items() for layer, parts in layers.items() for own in parts
}  # fmt: skip
_WIDTH = 4  # the MLP's inner width over the model's


def to_diffusers(low_rank: Mapping[str, LowRankState]) -> dict[str, LowRankState] | None:
    """The updates by diffusers' paths, or None where some are no layers of Flux.1."""
    found: dict[str, LowRankState] = {}
    for path, low in low_rank.items():
        own = _paths(path)
        rows = _rows(own, low)
        if own is None or sum(rows) != len(low.B) or low.experts or low.kernel:
            return None
        if path == _SWAPPED:
            found[own[0]] = _swapped(low)
        else:
            found |= dict(zip(own, _parts(low, rows)))
    return found


def from_diffusers(low_rank: Mapping[str, LowRankState]) -> dict[str, LowRankState]:
    """The updates by the paths of Flux's own code; what has none there keeps its path."""
    found: dict[str, LowRankState] = {}
    gathered: dict[str, dict[str, LowRankState]] = {}
    for path, low in low_rank.items():
        theirs = _origin(path)
        if theirs is None:
            found[path] = low
        elif theirs == _SWAPPED:
            found[theirs] = _swapped(low)
        else:
            gathered.setdefault(theirs, {})[path] = low
    for path, parts in gathered.items():
        own = _paths(path) or ()
        whole = len(parts) == len(own)
        if not whole and any(low.magnitude is not None for low in parts.values()):
            found |= parts  # what DoRA's rows of the others would be, the parts do not say
        else:
            found[path] = parts[own[0]] if len(own) == 1 else _fused(own, parts)
    return found


def _paths(path: str) -> tuple[str, ...] | None:
    if path in _ALONE:
        return (_ALONE[path],)
    match = re.fullmatch(r"(double_blocks|single_blocks)\.(\d+)\.(.+)", path)
    if match is None:
        return None
    blocks, number, layer = match.groups()
    own = _LAYERS[blocks].get(layer)
    return own and tuple(f"{_BLOCKS[blocks]}.{number}.{inner}" for inner in own)


def _origin(path: str) -> str | None:
    match = re.fullmatch(rf"({_DOUBLE}|{_SINGLE})\.(\d+)\.(.+)", path)
    if match is None:
        return _ALONE_BACK.get(path)
    kind, number, inner = match.groups()
    blocks, layer = _LAYERS_BACK.get(f"{kind}.{inner}", ("", ""))
    return f"{blocks}.{number}.{layer}" if blocks else None


def _rows(own: tuple[str, ...] | None, low: LowRankState) -> list[int]:
    if own is None or len(own) == 1:
        return [len(low.B)]
    width = low.A.shape[1]
    return [width * (_WIDTH if path.endswith("proj_mlp") else 1) for path in own]


def _parts(low: LowRankState, rows: list[int]) -> list[LowRankState]:
    magnitudes = [None] * len(rows) if low.magnitude is None else low.magnitude.split(rows)
    return [
        replace(low, B=B.contiguous(), magnitude=magnitude)
        for B, magnitude in zip(low.B.split(rows), magnitudes)
    ]


def _fused(paths: tuple[str, ...], parts: Mapping[str, LowRankState]) -> LowRankState:
    """One update of the whole layer: with one A where the parts share it, else with all of them."""
    some = [parts[path] for path in paths if path in parts]
    first = some[0]
    scales = {low.alpha / low.rank for low in some}
    shared = len(scales) == 1 and all(torch.equal(low.A, first.A) for low in some)
    A = first.A if shared else torch.cat([low.A for low in some])
    blocks, start = [], 0
    for path, rows in zip(paths, _rows(paths, first)):
        block, low = first.B.new_zeros(rows, len(A)), parts.get(path)
        if low is not None:
            block[:, start : start + low.rank] = _scaled(low, first)
            start += 0 if shared else low.rank
        blocks.append(block)
    magnitudes = [low.magnitude for low in some if low.magnitude is not None]
    return replace(
        first, A=A, B=torch.cat(blocks), alpha=first.alpha / first.rank * len(A),
        magnitude=torch.cat(magnitudes) if magnitudes else None,
    )  # fmt: skip


def _scaled(low: LowRankState, first: LowRankState) -> Tensor:
    ratio = (low.alpha / low.rank) / (first.alpha / first.rank)
    return low.B if ratio == 1 else (low.B.double() * ratio).to(low.B.dtype)


def _swapped(low: LowRankState) -> LowRankState:
    def turn(value: Tensor) -> Tensor:
        return torch.cat(value.chunk(2)[::-1])

    magnitude = None if low.magnitude is None else turn(low.magnitude)
    return replace(low, B=turn(low.B), magnitude=magnitude)
