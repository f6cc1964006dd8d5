"""Query, key and value as blocks of one layer's factors, not all of which there need be.

Of k blocks A is (r * k, in) and B (rows, r): block by block, in this order. The rows are those of
the base's heads, fewer for key and value where heads share them.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from lorakit.core.errors import AdapterFileError
from lorakit.core.state import LowRankState
from lorakit.formats.content import Options
from lorakit.formats.heads import Base, to_blocks, to_heads


def changed_blocks(low: LowRankState, base: Base, path: str) -> dict[int, LowRankState]:
    """The blocks of a fused layer in GPT-NeoX's order of rows, each with the ranks it needs."""
    scale, rows = low.alpha / low.rank, to_blocks(low.B, base.size, path)
    found: dict[int, LowRankState] = {}
    for place, B in enumerate(rows.split(base.blocks)):
        used = B.any(0)
        if used.any():
            alpha = scale * int(used.sum())
            found[place] = replace(low, A=low.A[used], B=B[:, used], alpha=alpha)
    return found


def nothing(like: LowRankState, rows: int) -> LowRankState:
    """A block of no change, of the same scale."""
    A, B = like.A.new_zeros(1, like.A.shape[1]), like.B.new_zeros(rows, 1)
    return replace(like, A=A, B=B, alpha=like.alpha / like.rank)


def cut(
    key: str, parts: Mapping[str, Tensor], base: Base, options: Options, where: str
) -> dict[int, tuple[Tensor, Tensor]]:
    """A and B of each block of a `qkv` that is enabled."""
    missing = [kind for kind in "AB" if kind not in parts]
    if missing:
        raise AdapterFileError(f"{where} lacks {missing[0]} of {key!r}. Fetch it again.")
    A, B = parts["A"], parts["B"]
    count, rest = divmod(len(A), B.shape[1])
    fitting = [
        chosen
        for chosen in itertools.product((True, False), repeat=3)
        if not rest
        and sum(chosen) == count
        and sum(itertools.compress(base.blocks, chosen)) == len(B)
        and options.enabled in (None, chosen)
    ]
    if len(fitting) != 1:
        raise AdapterFileError(
            f"{where}: {key!r} has A {tuple(A.shape)} and B {tuple(B.shape)}, which are those of "
            f"{'several' if fitting else 'no'} choices of query, key and value in this base"
            f"{f' with enabled={list(options.enabled)}' if options.enabled else ''}. Pass "
            "enabled=... (lora_query, lora_key, lora_value), or --enabled 1,0,1 for two of them."
        )
    places = [place for place in range(3) if fitting[0][place]]
    rows = B.split([base.blocks[place] for place in places])
    return dict(zip(places, zip(A.split(B.shape[1]), rows)))


def from_blocks(
    blocks: Mapping[int, tuple[Tensor, Tensor]], base: Base, paths: list[str], alpha: float
) -> dict[str, LowRankState]:
    """The updates of three layers, or of a fused one in GPT-NeoX's order of rows."""
    if len(paths) == 3:
        return {paths[n]: LowRankState("linear", A, B, alpha) for n, (A, B) in blocks.items()}
    first = next(iter(blocks.values()))[1]
    rank, column = first.shape[1], 0
    whole = first.new_zeros(sum(base.blocks), rank * len(blocks))
    for place, (_, B) in blocks.items():
        whole.split(base.blocks)[place][:, column : column + rank] = B
        column += rank
    A = torch.cat([A for A, _ in blocks.values()])
    B = to_heads(whole, base.size, paths[0])
    return {paths[0]: LowRankState("linear", A, B, alpha * len(blocks))}
