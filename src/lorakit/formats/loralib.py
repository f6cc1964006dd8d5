"""loralib's `lora_state_dict`: factors under the model's own paths, and nothing about their scale.

`x.lora_A` is (rank, in) and `x.lora_B` (out, rank) for a linear layer; (rank, vocabulary) and
(width, rank) for an embedding. A `MergedLinear` of n blocks, k of them enabled, has A (rank * k,
in) and B (out / n * k, rank); which k is not in the file. Alpha is not, either.
"""

from __future__ import annotations

import io
import math
from collections.abc import Collection, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from lorakit.core.errors import AdapterFileError, UnsupportedError
from lorakit.core.state import AdapterState, LowRankState
from lorakit.formats.content import Content, Options
from lorakit.formats.pairs import by_module, needed_alpha, update_of
from lorakit.layers import geometry_of

name = "loralib"
FILE = "lora.pt"
_SUFFIXES = {".lora_A": "A", ".lora_B": "B"}


def matches(content: Content) -> bool:
    """Whether some tensor is a factor with loralib's name."""
    return any(key.endswith(".lora_A") for key in content.tensors)


def load(
    content: Content, modules: Mapping[str, nn.Module] | None, options: Options
) -> AdapterState:
    """The adapter in a file; `options` say what it does not: alpha, and the enabled blocks."""
    where = content.where
    needed_alpha(options, name, where)
    state = AdapterState({})
    for path, parts in by_module(content.tensors, _SUFFIXES, where).items():
        if "?" not in parts:
            layer = None if modules is None else modules.get(path)
            state.low_rank[path] = _update(path, parts, options, layer, where)
            continue
        module, _, parameter = path.rpartition(".")
        if parameter == "bias":
            state.biases[module] = parts["?"]
        else:
            state.extras.setdefault(module, {})[parameter] = parts["?"]
    whole = [path for path in state.low_rank if path in state.extras]
    if whole:
        raise UnsupportedError(
            f"{where} has the whole weight of {whole[0]!r} beside its factors: a model that was "
            "saved in eval mode has them merged, and they would act twice. Save "
            "loralib.lora_state_dict(model) alone."
        )
    for module in [module for module in state.biases if module in state.extras]:
        state.extras[module]["bias"] = state.biases.pop(module)
    state.bias = "all" if state.biases else "none"
    return state


def save(
    state: AdapterState, modules: Collection[str] | None, options: Options
) -> dict[str, bytes]:
    """The file. loralib has one alpha for all layers, so the scales must be the same."""
    del modules, options
    alphas = sorted(state.scale(low) * low.rank for low in state.low_rank.values())
    if alphas and not math.isclose(alphas[0], alphas[-1], rel_tol=1e-9):
        raise UnsupportedError(
            f"loralib's readers know one alpha, and this adapter has {alphas[0]:g} to "
            f"{alphas[-1]:g}. Convert to another format."
        )
    tensors: dict[str, Tensor] = {}
    for path, low in state.low_rank.items():
        if low.magnitude is not None:
            raise UnsupportedError("loralib has no DoRA. Convert to another format.")
        if low.kernel:
            raise UnsupportedError(
                f"{path!r} is a convolution, whose factors loralib cuts in another way. Convert to "
                "another format."
            )
        tensors[f"{path}.lora_A"], tensors[f"{path}.lora_B"] = low.A, low.B
    for path, values in state.extras.items():
        tensors.update({f"{path}.{parameter}": value for parameter, value in values.items()})
    tensors.update({f"{path}.bias": value for path, value in state.biases.items()})
    file = io.BytesIO()
    torch.save({key: value.contiguous() for key, value in tensors.items()}, file)
    return {FILE: file.getvalue()}


def untold(state: AdapterState, modules: Collection[str] | None) -> dict[str, float]:
    """The alpha that the file's reader has to be told."""
    del modules
    lows = list(state.low_rank.values())
    return {"alpha": state.scale(lows[0]) * lows[0].rank} if lows else {}


def _update(
    path: str, parts: dict[str, Tensor], options: Options, layer: nn.Module | None, where: str
) -> LowRankState:
    A, B = parts.get("A"), parts.get("B")
    if A is None or B is None or A.dim() != 2 or B.dim() != 2:
        return update_of(path, parts, where, alpha=options.alpha)
    if A.shape[0] == B.shape[1] and not _one_block(path, B, options, layer, where):
        # A table's factors look like those of a linear layer: only the base can tell them apart.
        return replace(update_of(path, parts, where, alpha=options.alpha), geometry="")
    return _merged_linear(path, A, B, options, where)


def _one_block(path: str, B: Tensor, options: Options, layer: nn.Module | None, where: str) -> bool:
    """Whether this is a MergedLinear of which one block is enabled, which looks like a layer."""
    blocks = options.enabled or ()
    if len(blocks) < 2 or sum(blocks) != 1:
        return False
    geometry = None if layer is None else geometry_of(layer)
    if layer is None or geometry is None:
        raise AdapterFileError(
            f"{where}: with one enabled block {path!r} may be a MergedLinear or a plain layer. "
            "Pass the base model, which can tell."
        )
    return geometry.size(layer)[1] == len(B) * len(blocks)


def _merged_linear(path: str, A: Tensor, B: Tensor, options: Options, where: str) -> LowRankState:
    """The blocks of a `MergedLinear` as one update of the whole layer, of their added ranks."""
    rank = B.shape[1]
    count = A.shape[0] // rank if rank else 0
    if not count or A.shape[0] % rank or B.shape[0] % count:
        raise AdapterFileError(
            f"{where}: {path!r} has A {tuple(A.shape)} and B {tuple(B.shape)}, which are no "
            "factors of loralib (a convolution's cannot be converted)."
        )
    if options.enabled is None or sum(options.enabled) != count:
        raise AdapterFileError(
            f"{where}: {path!r} is a MergedLinear with {count} enabled blocks, and the file does "
            "not say which. Pass enabled=..., such as [true, false, true] for query and value."
        )
    assert options.alpha is not None
    rows = B.shape[0] // count
    spread = B.new_zeros(rows * len(options.enabled), rank * count)
    blocks = [place for place, enabled in enumerate(options.enabled) if enabled]
    for number, block in enumerate(blocks):
        own = slice(number * rank, (number + 1) * rank)
        spread[block * rows : (block + 1) * rows, own] = B[number * rows : (number + 1) * rows]
    return LowRankState("linear", A, spread, options.alpha * count)
