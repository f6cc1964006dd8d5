"""Which names the layers of an image model have in kohya's files, and which in diffusers.

Those for Stable Diffusion 1 and 2 have diffusers' own. Those for SDXL and Flux name the layers as
the models' own code does (`sgm`, `flux`).
"""

from __future__ import annotations

from collections.abc import Collection

from lorakit.core.state import AdapterState, LowRankState
from lorakit.formats import flux, sgm
from lorakit.formats.components import part_of
from lorakit.formats.content import Options
from lorakit.formats.pairs import put

_NAMES = "names"  # in a state's origin: whose names its file had
_UNET, _TRANSFORMER = "unet.", "transformer."
_T5 = "text_encoder_2.", "text_encoder_3."  # Flux's, in diffusers and in kohya's files


def by_diffusers(state: AdapterState, modules: Collection[str], where: str) -> None:
    """Let layers with the names of a model's own code have diffusers', in place.

    Not where `modules`, the base's, have the names of its own code themselves.
    """
    inside, others = _split(state.low_rank, _UNET)
    if any(path in modules or _UNET + path in modules for path in inside):
        return
    layers = flux.to_diffusers(inside)
    if layers:
        state.origin[_NAMES] = flux.NAMES
        renamed = {_TRANSFORMER + path: low for path, low in layers.items()}
        for path, low in others.items():
            put(renamed, _begun(path, _T5[1], _T5[0]), low, where)
        state.low_rank = renamed
        return
    renamed = dict(others)
    for path, low in inside.items():
        put(renamed, _UNET + (sgm.to_diffusers(path) or path), low, where)
    if renamed.keys() != state.low_rank.keys():
        state.origin[_NAMES] = sgm.NAMES
        state.low_rank = renamed


def by_own_names(state: AdapterState, options: Options) -> tuple[dict[str, LowRankState], bool]:
    """The updates as kohya's files name them, and whether the first encoder is one of several."""
    named = state.origin.get(_NAMES)
    if named == flux.NAMES:
        inside, others = _split(state.low_rank, _TRANSFORMER)
        found = {_UNET + path: low for path, low in flux.from_diffusers(inside).items()}
        return found | {_begun(path, *_T5): low for path, low in others.items()}, True
    told = str(state.origin.get("metadata", {}).get("ss_base_model_version", ""))
    places = {path: part_of(path, options) for path in state.low_rank}
    parts = {part for part, _ in places.values()}
    sdxl = named == sgm.NAMES or "sdxl" in told or {"unet", "text_encoder_2"} <= parts
    found = {}
    for path, (part, inner) in places.items():
        own = sgm.from_diffusers(inner) if sdxl and part == "unet" else None
        found[f"{part}.{own or inner}"] = state.low_rank[path]
    return found, sdxl or "text_encoder_2" in parts


def _split(
    low_rank: dict[str, LowRankState], start: str
) -> tuple[dict[str, LowRankState], dict[str, LowRankState]]:
    """The updates below a part, by their paths in it, and all others."""
    inside = {p.removeprefix(start): low for p, low in low_rank.items() if p.startswith(start)}
    return inside, {p: low for p, low in low_rank.items() if not p.startswith(start)}


def _begun(path: str, before: str, after: str) -> str:
    return after + path.removeprefix(before) if path.startswith(before) else path
