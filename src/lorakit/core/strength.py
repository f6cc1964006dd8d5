"""How strongly an adapter acts: its whole change of the model, times a number."""

from __future__ import annotations

import math
from collections.abc import Collection

from torch import nn

from lorakit.core.errors import MergeError, UnsupportedError, did_you_mean
from lorakit.core.registry import require_registry, root_of
from lorakit.core.site import module_at, own_parameters, site_of
from lorakit.core.update import LowRank, Update


def set_strength(
    model: nn.Module, name: str, strength: float, *, paths: Collection[str] | None = None
) -> None:
    """Let an adapter change the weights by `strength` times what it has learned; 1 is as it is.

    With `paths` at these layers alone; 0 turns them off.

    Low-rank changes and changes of a layer's own parameters, such as biases, norms and modules in
    full, are linear in it. What was there is lost: load the adapter again for another strength.
    Raises `UnsupportedError` for other updates, and for a path without one, and `MergeError` while
    an adapter is merged, nothing changed.
    """
    if not math.isfinite(strength):
        raise UnsupportedError(f"A strength of {strength} means nothing. Give a finite number.")
    root = root_of(model)
    registry = require_registry(model)
    entry = registry.entry(name)
    if registry.merged is not None:
        raise MergeError("An adapter is merged, as strong as it was. Call lk.unmerge first.")
    strange = sorted(set(paths or ()) - set(entry.paths))
    if strange:
        raise UnsupportedError(
            f"{name!r} has nothing at {strange[0]!r}.{did_you_mean(strange[0], entry.paths)}"
        )
    found: list[tuple[nn.Module, Update]] = []
    for path in entry.paths if paths is None else paths:
        layer = module_at(root, path)
        site = site_of(layer)
        assert site is not None
        for update in site.updates(entry.id).values():
            found += [(layer, part) for part in update.parts()]
    odd = next((own for _, own in found if not _is_linear(own)), None)
    if odd is not None:
        raise UnsupportedError(
            f"{name!r} has a {type(odd).__name__}, whose change is not linear in one factor. Set "
            "the strength of LoRA adapters and of whole parameters alone."
        )
    seen: set[int] = set()  # what layers share is changed once
    for layer, update in found:
        if isinstance(update, LowRank):
            update.scale *= strength
            update.alpha *= strength  # which is what files keep
            continue
        own = own_parameters(layer)
        for key, parameter in update.whole().items():
            if id(parameter) not in seen:
                seen.add(id(parameter))
                base = own[key].detach().to(parameter)
                parameter.data = base + strength * (parameter.detach() - base)


def _is_linear(update: Update) -> bool:
    """Whether a multiple of the update's parameters, or of its scale, is that of its change."""
    return type(update) is LowRank if isinstance(update, LowRank) else update.own
