"""The parts of an image pipeline that an adapter's paths are in: unet, text_encoder, ..."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from lorakit.core.errors import AdapterFileError, UnsupportedError, shortlist
from lorakit.core.state import AdapterState
from lorakit.formats.content import Options

PARTS = ("unet", "transformer", "text_encoder", "text_encoder_2", "text_encoder_3")
# How the paths of a part begin that stands alone.
_BEGINNINGS = {
    "unet": ("down_blocks.", "up_blocks.", "mid_block.", "conv_in", "time_embedding."),
    "transformer": ("transformer_blocks.", "single_transformer_blocks."),
    "text_encoder": ("text_model.", "encoder.layers."),
}


def part_of(path: str, options: Options) -> tuple[str, str]:
    """The part of a pipeline that a path is in, and the path inside it."""
    first, _, inside = path.partition(".")
    if first in PARTS:
        return first, inside
    if options.component is not None:
        return options.component, path
    for part, beginnings in _BEGINNINGS.items():
        if path.startswith(beginnings):
            return part, path
    raise UnsupportedError(
        f"{path!r} is in no part of an image pipeline that is known by its name "
        f"({', '.join(PARTS)}), which this format needs. Pass component=..., or convert to another "
        "format."
    )


def fit(state: AdapterState, modules: Collection[str], options: Options, where: str) -> None:
    """Let the paths be those of a model, in place: of a whole pipeline, or of one part of it.

    Raises `AdapterFileError` where the file holds more parts than the model has, unless one of
    them was chosen.
    """
    known = set(modules)
    parts = {path.partition(".")[0] for path in state.low_rank} & set(PARTS)
    if not parts:
        return
    if parts & {path.partition(".")[0] for path in known}:
        state.low_rank = {_inside(path, known): low for path, low in state.low_rank.items()}
        return
    chosen = options.component or (next(iter(parts)) if len(parts) == 1 else None)
    if chosen is None or chosen not in parts:
        raise AdapterFileError(
            f"{where} is for {shortlist(sorted(parts), 6)}; the model is one part. Choose with "
            "component=..., or load onto a torch.nn.ModuleDict of the parts by these names."
        )
    state.low_rank = {
        _inside(path.removeprefix(f"{chosen}."), known): replace(low)
        for path, low in state.low_rank.items()
        if path.startswith(f"{chosen}.")
    }


def _inside(path: str, known: set[str]) -> str:
    shorter = path.replace("text_model.", "", 1)
    return shorter if path not in known and shorter in known else path
