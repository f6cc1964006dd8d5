"""The parts of an image pipeline that an adapter's paths are in: unet, text_encoder, ..."""

from __future__ import annotations

from collections.abc import Collection

from lorakit.core.errors import AdapterFileError, UnsupportedError, shortlist
from lorakit.core.state import AdapterState, LowRankState
from lorakit.formats.content import PARTS, Options
from lorakit.formats.pairs import put

# How the paths of a part begin that stands alone.
_BEGINNINGS = {
    "unet": ("down_blocks.", "up_blocks.", "mid_block.", "conv_in", "time_embedding."),
    "transformer": ("transformer_blocks.", "single_transformer_blocks."),
    "text_encoder": ("text_model.", "encoder.layers."),
}
# Language models whose blocks lie in a `transformer` too: GPT-2 and others, DistilBERT, ChatGLM.
_LANGUAGE = ("transformer.h.", "transformer.layer.", "transformer.encoder.")


def part_of(path: str, options: Options) -> tuple[str, str]:
    """The part of a pipeline that a path is in, and the path inside it."""
    first, _, inside = path.partition(".")
    if first in PARTS and not path.startswith(_LANGUAGE):
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


def refuse_tables(state: AdapterState, form: str) -> None:
    """Raise `UnsupportedError` for an embedding, which image formats have no names for."""
    tables = [path for path, low in state.low_rank.items() if low.geometry == "embedding"]
    if tables:
        raise UnsupportedError(
            f"{form} has no names for the factors of an embedding, {shortlist(tables)}. Convert to "
            "peft."
        )


def fit(state: AdapterState, modules: Collection[str], options: Options, where: str) -> str | None:
    """Let the paths be those of a model, in place: of a whole pipeline, or of one part of it.

    Gives the part that was chosen, if it was one of a pipeline.

    Raises `AdapterFileError` where the file holds more parts than the model has, unless one of
    them was chosen.
    """
    known = set(modules)
    parts = {path.partition(".")[0] for path in state.low_rank} & set(PARTS)
    if not parts:
        return None
    fitted: dict[str, LowRankState] = {}
    if parts & {path.partition(".")[0] for path in known}:
        for path, low in state.low_rank.items():
            put(fitted, _inside(path, known), low, where)
        state.low_rank = fitted
        return None
    chosen = options.component or (next(iter(parts)) if len(parts) == 1 else None)
    if chosen is None or chosen not in parts:
        raise AdapterFileError(
            f"{where} is for {shortlist(sorted(parts), 6)}; the model is one part. Choose with "
            "component=..., or load onto a torch.nn.ModuleDict of the parts by these names."
        )
    for path, low in state.low_rank.items():
        if path.startswith(f"{chosen}."):
            put(fitted, _inside(path.removeprefix(f"{chosen}."), known), low, where)
    state.low_rank = fitted
    return chosen


def _inside(path: str, known: set[str]) -> str:
    shorter = path.replace("text_model.", "", 1)
    return shorter if path not in known and shorter in known else path
