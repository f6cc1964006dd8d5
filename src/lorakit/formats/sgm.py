"""The U-Net of Stable Diffusion's own code (generative-models) by diffusers' names, and back.

There blocks are counted in one row with the samplers between them, three to a level; kohya's files
for SDXL have these names, those for Stable Diffusion 1 and 2 have diffusers'.
"""

from __future__ import annotations

import re

NAMES = "sgm"
_LAYERS = 2  # per level, in all of these models; the decoder has one more
_RESNET = {
    "in_layers.0": "norm1", "in_layers.2": "conv1", "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2", "out_layers.3": "conv2", "skip_connection": "conv_shortcut",
}  # fmt: skip
_ALONE = {
    "input_blocks.0.0": "conv_in", "out.0": "conv_norm_out", "out.2": "conv_out",
    "time_embed.0": "time_embedding.linear_1", "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "add_embedding.linear_1", "label_emb.0.2": "add_embedding.linear_2",
}  # fmt: skip
_MIDDLE = {"0": "resnets.0", "1": "attentions.0", "2": "resnets.1"}
_RESNET_BACK = {own: theirs for theirs, own in _RESNET.items()}
_ALONE_BACK = {own: theirs for theirs, own in _ALONE.items()}
_CENTRE = re.compile(r"middle_block\.([012])\.(.+)")
_BLOCK = re.compile(r"(input|output)_blocks\.(\d+)\.(\d)\.(.+)")
_OWN = re.compile(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|\w+samplers)\.(\d+)\.(.+)")


def to_diffusers(path: str) -> str | None:
    """The path that diffusers has for one of the original U-Net, or None where it is none."""
    if path in _ALONE:
        return _ALONE[path]
    if match := _CENTRE.fullmatch(path):
        return _inside(f"mid_block.{_MIDDLE[match[1]]}", match[2])
    match = _BLOCK.fullmatch(path)
    if match is None or path.startswith("input_blocks.0."):
        return None
    side, number, place, inner = match.groups()
    if side == "input":
        level, layer = divmod(int(number) - 1, _LAYERS + 1)
        if (place, inner, layer) == ("0", "op", _LAYERS):
            return f"down_blocks.{level}.downsamplers.0.conv"
        level = f"down_blocks.{level}"
    else:
        level, layer = divmod(int(number), _LAYERS + 1)
        if inner == "conv":  # behind the attention, or in its place
            return f"up_blocks.{level}.upsamplers.0.conv"
        level = f"up_blocks.{level}"
    kind = {"0": "resnets", "1": "attentions"}.get(place)
    return None if kind is None else _inside(f"{level}.{kind}.{layer}", inner)


def from_diffusers(path: str) -> str | None:
    """The path in SDXL's original U-Net for one of diffusers, or None where it is none."""
    if path in _ALONE_BACK:
        return _ALONE_BACK[path]
    for place, own in _MIDDLE.items():
        if path.startswith(f"mid_block.{own}."):
            return f"middle_block.{place}.{_outside(path.removeprefix(f'mid_block.{own}.'))}"
    match = _OWN.fullmatch(path)
    if match is None:
        return None
    side, level, kind, layer, inner = match.groups()
    start = int(level) * (_LAYERS + 1)
    if side == "down":
        if kind == "downsamplers":
            return f"input_blocks.{start + _LAYERS + 1}.0.op"
        number, blocks, layers = start + 1 + int(layer), "input_blocks", _LAYERS
    else:
        if kind == "upsamplers":  # all levels of SDXL that grow have attention before
            return f"output_blocks.{start + _LAYERS}.2.conv"
        number, blocks, layers = start + int(layer), "output_blocks", _LAYERS + 1
    if int(layer) >= layers:
        return None
    return f"{blocks}.{number}.{0 if kind == 'resnets' else 1}.{_outside(inner)}"


def _inside(block: str, inner: str) -> str | None:
    if ".resnets." in block:
        return f"{block}.{_RESNET[inner]}" if inner in _RESNET else None
    return f"{block}.{inner}"


def _outside(inner: str) -> str:
    return _RESNET_BACK.get(inner, inner)
