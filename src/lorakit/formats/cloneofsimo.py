"""cloneofsimo's files: factors in the order in which the base's modules are walked, without names.

The safetensors form has `unet:0:up` B (out, rank), `unet:0:down` A (rank, in), and in the metadata
the classes whose linear layers are meant; tokens of textual inversion stand beside. The old `.pt`
form is a list [up, down, up, down, ...] for a U-Net. The scale is 1. Only the base gives names.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

import safetensors.torch
from torch import Tensor, nn

from lorakit.core.errors import AdapterFileError, UnsupportedError, shortlist
from lorakit.core.state import AdapterState, LowRankState
from lorakit.formats.components import part_of
from lorakit.formats.content import PARTS, Content, Options
from lorakit.formats.pairs import update_of

name = "cloneofsimo"
FILE = "lora.safetensors"
UNNAMED = "unnamed"  # in a state's origin: its paths are places in a list
# The classes of each part whose linear layers are meant, as its versions had them.
_CLASSES = {
    "unet": (("Attention", "CrossAttention", "GEGLU"), ("Attention", "CrossAttention")),
    "text_encoder": (("CLIPAttention",),),
}


def matches(content: Content) -> bool:
    """Whether the tensors are a list, or are named by part and place."""
    keys = content.tensors.keys()
    return any(_place(key) for key in keys) or (
        len(keys) > 1 and keys == {str(place) for place in range(len(keys))}
    )


def load(
    content: Content, modules: Mapping[str, nn.Module] | None, options: Options
) -> AdapterState:
    """The adapter in a file; without the base its paths are places, such as `unet.3`."""
    where = content.where
    pairs: dict[str, dict[int, dict[str, Tensor]]] = {}
    tokens: dict[str, Tensor] = {}
    for key, value in content.tensors.items():
        part, place, factor = _place(key) or _listed(key, options)
        if factor:
            pairs.setdefault(part, {}).setdefault(place, {})[factor] = value
        elif value.dim() == 1 and content.metadata.get(key) == "<embed>":
            tokens[key] = value
        else:
            raise AdapterFileError(f"{where} has a tensor {key!r}, which no such file has.")
    state = AdapterState({}, origin={"metadata": dict(content.metadata), "tokens": tokens})
    state.origin[UNNAMED] = modules is None
    for part, places in sorted(pairs.items()):
        if sorted(places) != list(range(len(places))):
            raise AdapterFileError(f"{where} lacks places of {part!r}: the file is not whole.")
        lows = [update_of(f"{part}:{n}", places[n], where) for n in range(len(places))]
        names = [f"{part}.{n}" for n in range(len(lows))]
        if modules is not None:
            names = _names(part, lows, content.metadata, modules, where)
        state.low_rank.update(zip(names, lows, strict=True))
    return state


def save(
    state: AdapterState, modules: Mapping[str, nn.Module] | None, options: Options
) -> dict[str, bytes]:
    """The file. It has no names, so the base must be at hand, and all its places be adapted."""
    if modules is None:
        raise UnsupportedError("cloneofsimo's files have no names: pass the base model.")
    parts: dict[str, dict[str, LowRankState]] = {}
    for path, low in state.low_rank.items():
        if low.magnitude is not None or low.kernel:
            raise UnsupportedError(f"{path!r}: cloneofsimo's files hold plain linear layers only.")
        part, inside = part_of(path, options)
        parts.setdefault(part, {})[inside] = low
    tensors: dict[str, Tensor] = dict(state.origin.get("tokens", {}))
    metadata = dict.fromkeys(tensors, "<embed>")
    for part, lows in parts.items():
        order, classes = _order_of(part, set(lows), modules)
        metadata[part] = json.dumps(classes)
        for place, inside in enumerate(order):
            low = lows[inside]
            metadata[f"{part}:{place}:rank"] = str(low.rank)
            tensors[f"{part}:{place}:down"] = low.A.contiguous()
            tensors[f"{part}:{place}:up"] = (low.B.double() * state.scale(low)).float().contiguous()
    return {FILE: safetensors.torch.save(tensors, metadata=metadata)}


def _place(key: str) -> tuple[str, int, str] | None:
    words = key.split(":")
    if len(words) != 3 or words[0] not in PARTS or not words[1].isdecimal():
        return None
    factor = {"up": "B", "down": "A"}.get(words[2])
    return (words[0], int(words[1]), factor) if factor else None


def _listed(key: str, options: Options) -> tuple[str, int, str]:
    """Part, place and factor of an entry of the list form; no factor for anything else."""
    if not key.isdecimal():
        return "", 0, ""
    return options.component or "unet", int(key) // 2, "AB"[1 - int(key) % 2]


def _names(
    part: str, lows: list[LowRankState], metadata: Mapping[str, str],
    modules: Mapping[str, nn.Module], where: str,
) -> list[str]:  # fmt: skip
    """The paths of the part's layers, in the order of the file, checked by their shapes."""
    inside = _inside(part, modules)
    for classes in _told(part, metadata, where):
        for order in _orders(inside, classes):
            shapes = [tuple(inside[path].weight.shape) for path in order]  # type: ignore[union-attr]
            if shapes == [(len(low.B), low.A.shape[1]) for low in lows]:
                return [f"{part}.{path}" for path in order]
    raise AdapterFileError(
        f"{where}: the {len(lows)} places of {part!r} are not those of the base that was given. "
        "Pass the model that the adapter was trained on, its parts in a torch.nn.ModuleDict."
    )


def _told(part: str, metadata: Mapping[str, str], where: str) -> list[tuple[str, ...]]:
    if part not in metadata:
        return list(_CLASSES.get(part, ()))
    try:
        told = json.loads(metadata[part])
    except ValueError as error:
        raise AdapterFileError(f"{where}: the metadata of {part!r} are damaged.") from error
    if not isinstance(told, list) or not all(isinstance(word, str) for word in told):
        raise AdapterFileError(f"{where}: the metadata of {part!r} are no list of classes.")
    # diffusers has renamed its attention since.
    return [tuple({*told, "Attention"}) if "CrossAttention" in told else tuple(told)]


def _order_of(
    part: str, paths: set[str], modules: Mapping[str, nn.Module]
) -> tuple[list[str], list[str]]:
    """The order in which the format has these layers, and the classes that mean them."""
    inside = _inside(part, modules)
    for classes in _CLASSES.get(part, ()):
        order = _orders(inside, classes)[0]
        if Counter(order) == Counter(paths):
            return order, sorted(classes)
    raise UnsupportedError(
        f"cloneofsimo's files adapt every linear layer of {part}'s attention and no other; this "
        f"adapter has {len(paths)} layers: {shortlist(sorted(paths))}."
    )


def _inside(part: str, modules: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """The modules of one part of a pipeline, by their paths in it."""
    own = {p.partition(".")[2]: m for p, m in modules.items() if p.startswith(f"{part}.")}
    return own or dict(modules)


def _orders(modules: Mapping[str, nn.Module], classes: tuple[str, ...]) -> list[list[str]]:
    """Every linear layer inside a module of the classes, as `named_modules` comes to them.

    First as diffusers did until 2023, when these files were made: a block had its feed-forward
    between the two attentions. Then as it is now.
    """
    paths: dict[int, str] = {id(module): path for path, module in modules.items()}
    found: list[str] = []
    for module in modules.values():
        if type(module).__name__ in classes:
            inside: list[Any] = [m for m in module.modules() if isinstance(m, nn.Linear)]
            found += [paths[id(layer)] for layer in inside if id(layer) in paths]
    now = list(dict.fromkeys(found))
    blocks: dict[str, int] = {}
    for path in now:
        blocks.setdefault(_block(path)[0], len(blocks))
    old = sorted(now, key=lambda path: (blocks[_block(path)[0]], _block(path)[1]))
    return [old, now]


def _block(path: str) -> tuple[str, int]:
    """The transformer block of a layer, and the old place of what it is in."""
    for place, child in enumerate((".attn1.", ".ff.", ".attn2.")):
        if child in path:
            return path.partition(child)[0], place
    return path, 0
