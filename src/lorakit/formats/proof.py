"""Whether what was written is the same adapter: it is read again, and every change compared."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lorakit.core.errors import SaveError, UnsupportedError, shortlist
from lorakit.core.state import AdapterState, LowRankState
from lorakit.formats import cloneofsimo, own
from lorakit.formats.components import part_of
from lorakit.formats.content import Options, read_content

TOLERANCE = 1e-6  # of the size of a module's change: what rounding of float32 may cost


@dataclass(frozen=True)
class Written:
    """An adapter that was made out of others: its folder, and the relative error of each module.

    The error is |D' - D| / |D| (Frobenius) of the change D that was wanted and the one there is.
    """

    folder: str
    errors: dict[str, float]

    @property
    def largest(self) -> float:
        """The largest error of any module."""
        return max(self.errors.values(), default=0.0)

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON."""
        return {**asdict(self), "largest": self.largest}


_HOLDS_WHOLE = (
    "own",
    "peft",
    "vera",
    "vllm",
    "loralib",
)  # have a place for whole modules
_BY_BASE = ("cloneofsimo", "torchtune", "litgpt")  # formats that the base is needed to read


def relative_error(before: LowRankState, after: LowRankState, scales: tuple[float, float]) -> float:
    """|s' B' A' - s B A| / |s B A| (Frobenius), without forming a product of full size.

    [B', -B] [A'; A] is a product of rank at most r' + r; with B = Q R and A^T = Q' R' its norm is
    that of R R'^T. In float64, so that what is seen is the error of the files.
    """
    A = [before.A.double() * scales[0], after.A.double() * scales[1]]
    B = [before.B.double(), after.B.double()]
    size = _norm(A[0], B[0])
    gap = _norm(torch.cat([A[1], A[0]], -2), torch.cat([B[1], -B[0]], -1))
    return gap / size if size else gap


def _norm(A: Tensor, B: Tensor) -> float:
    """|B A| (Frobenius)."""
    return float(torch.linalg.norm(torch.linalg.qr(B).R @ torch.linalg.qr(A.mT).R.mT))


def holdable(
    state: AdapterState, form: str, *, drop: bool = False
) -> tuple[AdapterState, tuple[str, ...]]:
    """The adapter without what the format has no place for, which is listed, or refused."""
    if state.origin.get(cloneofsimo.UNNAMED):
        raise UnsupportedError(
            "The file has no names for its modules, only their order. Pass the base model, its "
            "parts in a torch.nn.ModuleDict."
        )
    if state.parameters and form != own.name:
        raise UnsupportedError(
            f"{form} has no place for {state.method}, which no other tool has in this form. Keep "
            "the folder that lorakit wrote."
        )
    if form == own.name and not state.parameters:
        raise UnsupportedError("own is for methods that PEFT has no form for. Use peft.")
    kept, lost = state, []
    if form != cloneofsimo.name:
        lost = [f"{token} (token embedding)" for token in state.origin.get("tokens", ())]
    if form not in _HOLDS_WHOLE and (state.extras or state.biases):
        lost += [f"{path} (trained in full)" for path in state.extras]
        lost += [f"{path}.bias" for path in state.biases]
        kept = replace(state, extras={}, biases={}, bias="none")
    if lost and not drop:
        raise UnsupportedError(
            f"{form} has no place for {len(lost)} parts of this adapter: {shortlist(lost)}. "
            "Save or convert it as peft, or leave them out with convert's drop=True (--drop)."
        )
    experts = [target for target, low in kept.low_rank.items() if low.experts]
    if experts and form != "peft":
        raise UnsupportedError(
            f"{form} has no place for fused experts ({shortlist(experts)}). Save or convert the "
            "adapter as peft, or merge it into its base."
        )
    if not kept.low_rank and form not in ("own", "peft"):
        raise UnsupportedError(f"{form} holds factors, and this adapter has none. Use peft.")
    return kept, tuple(lost)


def compare(
    state: AdapterState, form: Any, folder: Path, options: Options, modules: Any
) -> dict[str, float]:
    """The errors of what was written, read again by the same rules as anybody's file."""
    given = modules if form.name in _BY_BASE else None
    asked = replace(options, **untold(form, state, modules))
    again = form.load(read_content(folder, pickles=True), given, asked)
    names = {_known_as(path, options): path for path in again.low_rank}
    errors: dict[str, float] = {}
    for path, low in state.low_rank.items():
        other = again.low_rank.get(names.get(_known_as(path, options), ""))
        if other is None:
            raise SaveError(f"{form.name} has no name for {path!r} that leads back to it.")
        errors[path] = relative_error(low, other, (state.scale(low), again.scale(other)))
        same = low.magnitude is None or torch.equal(low.magnitude, other.magnitude)
        if errors[path] > TOLERANCE or not same:
            raise SaveError(
                f"Converting {path!r} to {form.name} would change it by {errors[path]:.2g} of its "
                "size, so nothing was written."
            )
    return errors


def untold(form: Any, state: AdapterState, modules: Any) -> dict[str, Any]:
    """What a file of the format does not say and its reader has to be told, as `Options`."""
    return form.untold(state, modules) if hasattr(form, "untold") else {}


def _known_as(path: str, options: Options) -> str:
    """The path with the part of the pipeline before it, and without the level that CLIP lost."""
    try:
        part, inside = part_of(path, options)
    except UnsupportedError:
        return path
    return f"{part}.{inside.removeprefix('text_model.')}"
