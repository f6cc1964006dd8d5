"""Words for modules that are meant as they are, and not as matrices of a low-rank form."""

from __future__ import annotations

import re

from torch import nn

from lorakit.core.errors import PlanError
from lorakit.core.site import own_parameters, walk
from lorakit.layers.role import role_of
from lorakit.methods.whole import has_biased

_TOP = re.compile(r"top-([1-9][0-9]*)")


def whole_words(root: nn.Module) -> dict[str, set[str]]:
    """Every word that means something on this model, and the modules it means.

    "everything": the outermost modules with parameters of their own; "biases": layers whose bias
    can be trained alone; "attentions": modules with keys of their own; "trunk": what is below the
    head.
    """
    modules = dict(walk(root))
    found = {
        "everything": set(_outermost(root, "")),
        "biases": {path for path, module in modules.items() if has_biased(module)},
        "attentions": {
            path.rpartition(".")[0]
            for path, module in modules.items()
            if role_of(path, module) in ("k", "qkv")
        },
        "trunk": {getattr(root, "base_model_prefix", "") or ""} & modules.keys(),
    }
    return {word: paths - {""} for word, paths in found.items() if paths - {""}}


def top_blocks(root: nn.Module, word: str) -> set[str] | None:
    """The modules of the last blocks, for words such as "top-2"; None for any other word.

    Raises `PlanError` where the model has fewer blocks.
    """
    said = _TOP.fullmatch(word)
    if said is None:
        return None
    path, blocks = _blocks(root)
    count = int(said[1])
    if count > len(blocks):
        raise PlanError(
            f"targets: {word!r} means {count} blocks, and this model has {len(blocks)}. Name fewer."
        )
    first = len(blocks) - count
    return {inner for n in range(first, len(blocks)) for inner in _outermost(root, f"{path}.{n}")}


def _outermost(root: nn.Module, inside: str) -> list[str]:
    """The modules with parameters of their own, none of them within another one."""
    found: list[str] = []
    for path, module in walk(root):
        within = not inside or f"{path}.".startswith(f"{inside}.")
        held = any(f"{path}.".startswith(f"{other}.") for other in found[-1:])
        if path and within and not held and any(p is not None for p in module._parameters.values()):
            found.append(path)
    return found


def _blocks(root: nn.Module) -> tuple[str, nn.ModuleList]:
    """The list of alike modules that holds most of the model's parameters, the last of equals."""
    lists = [(path, m) for path, m in walk(root) if isinstance(m, nn.ModuleList) and len(m)]
    alike = [(path, m) for path, m in lists if len({type(block) for block in m}) == 1]
    if not alike:
        raise PlanError("This model has no list of blocks, so there are no top ones. Name modules.")

    def weight(held: tuple[str, nn.ModuleList]) -> int:
        return sum(parameter.numel() for parameter in own_parameters(held[1]).values())

    return max(reversed(alike), key=weight)
