"""kohya's files (sd-scripts, ComfyUI, A1111): one safetensors for all parts of a pipeline.

A module `unet.down_blocks.0...to_q` is `lora_unet_down_blocks_0_..._to_q`, with `lora_down.weight`
A (rank, in) or (rank, in, *kernel), `lora_up.weight` B (out, rank) or (out, rank, 1, ...), `alpha`,
one number, and `dora_scale` (out, 1, ...). A missing alpha is the rank. LyCORIS adds products that
are read as factors of the same change. Files for SDXL and Flux name the layers as those models' own
code does; they are read by diffusers' names unless the base at hand has the others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

import safetensors.torch
import torch
from torch import Tensor

from lorakit.core.errors import AdapterFileError, UnsupportedError, shortlist
from lorakit.core.state import AdapterState
from lorakit.formats import lycoris
from lorakit.formats.components import refuse_tables
from lorakit.formats.content import Content, Options
from lorakit.formats.flat import COMPONENTS, flatten, split_component, unflatten
from lorakit.formats.kohya_names import by_diffusers, by_own_names
from lorakit.formats.pairs import alpha_numbers, by_module, put, update_of

name = "kohya"
FILE = "pytorch_lora_weights.safetensors"
_SUFFIXES = {
    ".lora_down.weight": "A",
    ".lora_up.weight": "B",
    ".alpha": "alpha",
    ".dora_scale": "magnitude",
}
# Ends of keys of other kinds of update, and what to call them.
_OTHERS = {
    ".oft_blocks": "OFT", ".diff": "a full difference", ".diff_b": "a difference of a bias",
    ".w_norm": "a norm", ".b_norm": "a norm", ".on_input": "IA3",
}  # fmt: skip


def matches(content: Content) -> bool:
    """Whether the tensors have kohya's names."""
    ends = (".lora_down.weight", *lycoris.SUFFIXES, *_OTHERS)
    return any(key.endswith(ends) and split_component(key) for key in content.tensors)


def load(content: Content, modules: Collection[str] | None, options: Options) -> AdapterState:
    """The adapter in a file; paths begin with the part of the pipeline that they are in."""
    del options
    where = content.where
    other = next((k for k in content.tensors if k.endswith(tuple(_OTHERS))), None)
    if other is not None:
        kind = next(what for end, what in _OTHERS.items() if other.endswith(end))
        raise UnsupportedError(f"{where} holds {other!r}: {kind} is no low-rank pair.")
    alpha_numbers(content.tensors, ".alpha", where)
    state = AdapterState({}, origin={"metadata": dict(content.metadata)})
    for key, parts in by_module(content.tensors, {**_SUFFIXES, **lycoris.SUFFIXES}, where).items():
        path = None if "?" in parts else _path(key, modules, where)
        if path is not None and lycoris.is_product(parts):
            put(state.low_rank, path, lycoris.update_of(key, parts, where), where)
            continue
        if path is None:
            raise AdapterFileError(f"{where} has a tensor {key!r}, which no kohya file has.")
        if "magnitude" in parts:
            _check_magnitude(key, parts, where)
            state.method = "dora"
        put(state.low_rank, path, update_of(key, parts, where), where)
    if state.method == "dora" and any(low.magnitude is None for low in state.low_rank.values()):
        raise UnsupportedError(f"{where} has magnitudes for some modules and not for others.")
    by_diffusers(state, modules or (), where)
    return state


def save(
    state: AdapterState, modules: Collection[str] | None, options: Options
) -> dict[str, bytes]:
    """The file, its scales as alphas, so that no reader needs to know of rsLoRA.

    All modules get the commonest alpha: diffusers 0.42 misreads a file that has several. Where
    that is not a module's own, the rest of its scale goes into B, in float32.
    """
    del modules
    refuse_tables(state, name)
    low_rank, two = by_own_names(state, options)
    alphas = [state.scale(low) * low.rank for low in low_rank.values()]
    alpha = Counter(alphas).most_common(1)[0][0] if alphas else 1.0
    tensors: dict[str, Tensor] = {}
    for path, low in low_rank.items():
        key = _key(path, two=two)
        ones = [1] * len(low.kernel)
        tensors[f"{key}.lora_down.weight"] = low.A.view(low.rank, -1, *low.kernel).contiguous()
        rest = state.scale(low) * low.rank / alpha
        B = low.B if rest == 1 else (low.B.double() * rest).float()
        tensors[f"{key}.lora_up.weight"] = B.view(*B.shape, *ones).contiguous()
        tensors[f"{key}.alpha"] = torch.tensor(alpha)
        if low.magnitude is not None:
            tensors[f"{key}.dora_scale"] = low.magnitude.view(-1, 1, *ones).contiguous()
    metadata = {**state.origin.get("metadata", {}), **_training(state, alpha)}
    return {FILE: safetensors.torch.save(tensors, metadata=metadata)}


def _training(state: AdapterState, alpha: float) -> dict[str, str]:
    ranks = {low.rank for low in state.low_rank.values()}
    return {
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(ranks.pop()) if len(ranks) == 1 else "Dynamic",
        "ss_network_alpha": f"{alpha:g}",
    }


def _path(key: str, modules: Collection[str] | None, where: str) -> str:
    split = split_component(key)
    if split is None:
        raise AdapterFileError(
            f"{where} has a module {key!r}; expected names that begin with one of "
            f"{shortlist(COMPONENTS, 6)}."
        )
    component, flat = split
    inside = None
    if modules is not None:
        own = [p.removeprefix(f"{component}.") for p in modules if p.startswith(f"{component}.")]
        inside = unflatten(flat, own or modules)
    inside = inside or unflatten(flat, None)
    if inside is None:
        raise AdapterFileError(
            f"{where}: the path of {key!r} cannot be told from its name. Pass the base model, or a "
            "torch.nn.ModuleDict of the pipeline's parts."
        )
    return f"{component}.{inside}"


def _key(path: str, *, two: bool) -> str:
    component, _, inside = path.partition(".")
    if component.startswith("text_encoder") and inside.startswith("encoder.layers."):
        inside = f"text_model.{inside}"  # the name that every other tool reads
    if component == "text_encoder":
        prefix = "lora_te1_" if two else "lora_te_"
    else:
        prefix = next(prefix for prefix, own in COMPONENTS.items() if own == component)
    return prefix + flatten(inside)


def _check_magnitude(key: str, parts: dict[str, Tensor], where: str) -> None:
    rows = len(parts["B"]) if "B" in parts and parts["B"].dim() else 0
    shape = parts["magnitude"].shape
    if shape[:1] != (rows,) or parts["magnitude"].numel() != rows:
        raise UnsupportedError(
            f"{where}: dora_scale of {key!r} has shape {tuple(shape)}; supported is one number for "
            f"each of the {rows} outputs."
        )
