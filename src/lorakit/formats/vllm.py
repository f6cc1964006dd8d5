"""A PEFT folder as vLLM reads it: one rank for all modules, and no scale but 1.

vLLM takes rank and alpha from the config's `r` and `lora_alpha` alone. So each module is filled up
with zeros to one of its ranks, and the scale goes into B. It serves linear layers only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import nn

from lorakit.core.errors import UnsupportedError
from lorakit.core.state import AdapterState
from lorakit.formats import peft
from lorakit.formats.content import Content, Options
from lorakit.formats.pairs import filled

name = "vllm"
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)


def matches(content: Content) -> bool:
    """Never: such a folder is PEFT's, and is read as that."""
    del content
    return False


load = peft.load


def save(
    state: AdapterState, modules: Mapping[str, nn.Module] | None, options: Options
) -> dict[str, bytes]:
    """The folder's files. Raises `UnsupportedError` with all reasons why vLLM cannot serve it."""
    reasons = why_not(state)
    if reasons:
        raise UnsupportedError(f"vLLM cannot serve this adapter: {'; '.join(reasons)}.")
    rank = next(r for r in RANKS if r >= max(low.rank for low in state.low_rank.values()))
    low_rank = {
        path: replace(filled(low, rank, state.scale(low)), alpha=float(rank))
        for path, low in state.low_rank.items()
    }
    return peft.save(replace(state, low_rank=low_rank, rslora=False), modules, options)


def why_not(state: AdapterState) -> list[str]:
    """What vLLM would refuse or get wrong in an adapter of plain factors."""
    lows = state.low_rank.values()
    reasons = {
        "it is a DoRA": state.method == "dora",
        "modules are trained in full": bool(state.extras),
        "biases are trained": bool(state.biases),
        "it changes fused experts": any(low.experts for low in lows),
        "it changes convolutions": any(low.kernel for low in lows),
        "it changes embeddings": any(low.geometry == "embedding" for low in lows),
        f"its rank is above {RANKS[-1]}": any(low.rank > RANKS[-1] for low in lows),
        "it changes no linear layer": not state.low_rank,
    }
    return [reason for reason, holds in reasons.items() if holds]
