"""Factors in files of single tensors: suffixes sorted by module, and made into updates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from lorakit.core.errors import AdapterFileError, UnsupportedError, shortlist
from lorakit.core.state import AdapterState, LowRankState
from lorakit.formats.content import Options

Suffixes = Mapping[str, str]  # the end of a key -> "A", "B", "alpha", "magnitude"


def by_module(
    tensors: Mapping[str, Tensor], suffixes: Suffixes, where: str
) -> dict[str, dict[str, Tensor]]:
    """The tensors of each module, by what they are; keys without a known end under their own."""
    found: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        suffix = next((end for end in suffixes if key.endswith(end)), "")
        kind = suffixes.get(suffix, "?")
        parts = found.setdefault(key.removesuffix(suffix), {})
        if kind in parts:
            raise AdapterFileError(
                f"{where} has {key!r} in two forms, so one would be lost. Fetch it again, or save "
                "it with one tool."
            )
        parts[kind] = value
    return found


def put(low_rank: dict[str, LowRankState], path: str, low: LowRankState, where: str) -> None:
    """Add an update, or `AdapterFileError` where the path has one already."""
    if path in low_rank:
        raise AdapterFileError(f"{where} has two updates for {path!r}, so one would be lost.")
    low_rank[path] = low


def update_of(
    module: str, parts: Mapping[str, Tensor], where: str, *, alpha: float | None = None
) -> LowRankState:
    """The update of one module; without any alpha it is the rank, so that the scale is 1."""
    missing = [name for name in "AB" if name not in parts]
    if missing:
        raise AdapterFileError(
            f"{where} lacks {missing[0]} of {module!r}: the file is not whole. Fetch it again."
        )
    A, B = parts["A"], parts["B"]
    if A.dim() == 2 and B.dim() > 2 and set(B.shape[2:]) == {1}:
        B = B.flatten(1)  # files of one-point convolutions have either form
    if B.dim() == 2 and A.dim() > 2:
        B = B.view(*B.shape, *[1] * (A.dim() - 2))
    if (
        not A.numel()
        or not B.numel()
        or A.dim() != B.dim()
        or A.dim() not in (2, 3, 4, 5)
        or set(B.shape[2:]) - {1}
    ):
        raise UnsupportedError(
            f"{where}: {module!r} has A {tuple(A.shape)} and B {tuple(B.shape)}; supported are two "
            "matrices, or those of a convolution, where B has a kernel of one point."
        )
    if A.shape[0] != B.shape[1] or not A.shape[0]:
        raise AdapterFileError(
            f"{where}: {module!r} has A {tuple(A.shape)} and B {tuple(B.shape)}, whose ranks "
            "differ: the file is damaged. Fetch it again."
        )
    own = float(A.shape[0]) if alpha is None else alpha
    if "alpha" in parts:
        own = float(parts["alpha"])
        if alpha is not None and not math.isclose(own, alpha, rel_tol=1e-6):
            raise AdapterFileError(
                f"{where} gives {module!r} the alpha {own:g} in a tensor and {alpha:g} in its "
                "metadata. They are not of one adapter."
            )
    if own == 0:
        raise AdapterFileError(f"{where}: alpha of {module!r} is 0, so it does nothing.")
    magnitude = parts.get("magnitude")
    return LowRankState(
        "linear" if A.dim() == 2 else "convolution", A.flatten(1), B.flatten(1), own,
        tuple(A.shape[2:]), magnitude=None if magnitude is None else magnitude.flatten(),
    )  # fmt: skip


def alpha_numbers(tensors: Mapping[str, Tensor], suffix: str, where: str) -> None:
    """Raise `AdapterFileError` for an alpha that is not one number."""
    odd = [k for k, v in tensors.items() if k.endswith(suffix) and v.numel() != 1]
    if odd:
        raise AdapterFileError(f"{where} has an alpha of several numbers: {shortlist(odd)}.")


def needed_alpha(options: Options, form: str, where: str) -> float:
    """The alpha that was passed for a file that says none, or `AdapterFileError`."""
    if options.alpha is None:
        raise AdapterFileError(
            f"{where} is a file of {form}, which does not say its alpha. Pass alpha=..., as the "
            "model was built with (lora_alpha), to lk.convert, or --alpha to lorakit convert."
        )
    return options.alpha


def common_alpha(state: AdapterState, rank: int | None = None) -> float:
    """One alpha for all modules, at their own ranks or at a common one.

    It is that of their scales if they agree; else a rank, and what it leaves over is for B.
    """
    alphas = [state.scale(low) * (rank or low.rank) for low in state.low_rank.values()]
    if all(math.isclose(alpha, alphas[0], rel_tol=1e-12) for alpha in alphas):
        return alphas[0]
    return float(rank or max(low.rank for low in state.low_rank.values()))


def filled(low: LowRankState, rank: int, ratio: float) -> LowRankState:
    """The update with B times a ratio, filled up with zeros to a rank."""
    A = torch.cat([low.A, low.A.new_zeros(rank - low.rank, low.A.shape[1])])
    B = low.B
    if not math.isclose(ratio, 1, rel_tol=1e-12):  # a product is rounded once, in float32
        B = (B.double() * ratio).float()
    B = torch.cat([B, B.new_zeros(len(B), rank - low.rank)], 1)
    return replace(low, A=A, B=B)
