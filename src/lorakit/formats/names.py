"""Tables of names in which `{}` is the number of a layer."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from torch import nn

from lorakit.core.state import AdapterState, LowRankState
from lorakit.layers import geometry_of


def look_up(key: str, table: Mapping[str, str]) -> tuple[str, str]:
    """The entry of a table that a name is one of, and what it becomes; empty if there is none."""
    layer = re.search(r"\.(0|[1-9][0-9]{0,5})\.", key)
    if layer is None:
        return key, "" if "{" in key else table.get(key, "")
    general = f"{key[: layer.start()]}.{{}}.{key[layer.end() :]}"
    return general, table.get(general, "").format(layer[1])


def in_all_layers(
    state: AdapterState, modules: Mapping[str, nn.Module] | None, groups: Iterable[Collection[str]]
) -> AdapterState:
    """The adapter without rsLoRA, and with changes of zero where a tool must have one.

    Tools that build a model with one switch for a group of modules find the adapter whole only if
    all modules of the group have factors, in all layers, once one of them has.
    """
    lows = {
        path: replace(low, alpha=state.scale(low) * low.rank)
        for path, low in state.low_rank.items()
    }
    first = next(iter(lows.values()))
    for group in groups:
        table = dict.fromkeys(group, "x")
        if not any(look_up(path, table)[1] for path in state.low_rank):
            continue
        for path, layer in (modules or {}).items():
            geometry = geometry_of(layer)
            if path not in lows and geometry is not None and look_up(path, table)[1]:
                columns, rows = geometry.size(layer)
                A, B = first.A.new_zeros(1, columns), first.B.new_zeros(rows, 1)
                lows[path] = LowRankState(geometry.name, A, B, first.alpha / first.rank)
    return replace(state, low_rank=lows, rslora=False)
