"""`convert`: an adapter from one format into another, with the largest error of each module.

Nothing is taken on trust: what was written is read again, and the change that each module makes is
compared on both sides.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lorakit.core.errors import SaveError, UnsupportedError, did_you_mean, shortlist
from lorakit.core.registry import root_of
from lorakit.core.state import AdapterState, LowRankState
from lorakit.formats import FORMATS, cloneofsimo, manifest
from lorakit.formats.components import part_of
from lorakit.formats.content import Options, read_content
from lorakit.formats.load import own_modules, read_adapter
from lorakit.formats.packing import packed
from lorakit.formats.save import put_files, summary

TOLERANCE = 1e-6  # of the size of a module's change: what rounding of float32 may cost


@dataclass(frozen=True)
class Proof:
    """What a conversion did: the relative error of every module's change, and what was left out.

    The error is |D' - D| / |D| (Frobenius), D being scale * B A before and D' after.
    """

    source: str
    folder: str
    from_format: str
    to_format: str
    errors: dict[str, float]
    dropped: tuple[str, ...]
    sha256: str

    @property
    def largest(self) -> float:
        """The largest error of any module."""
        return max(self.errors.values(), default=0.0)

    def as_dict(self) -> dict[str, Any]:
        """The proof as JSON."""
        return {**asdict(self), "largest": self.largest}

    def __str__(self) -> str:
        lines = [
            f"{self.from_format} -> {self.to_format}: {len(self.errors)} modules in {self.folder}; "
            f"largest relative error of a change {self.largest:.2g}"
        ]
        if self.dropped:
            lines.append(f"left out: {shortlist(self.dropped, 8)}")
        return "\n".join(lines)


def convert(
    source: str | os.PathLike, out: str | os.PathLike, *, to: str = "peft",
    model: nn.Module | None = None, component: str | None = None, alpha: float | None = None,
    enabled: Sequence[bool] | None = None, drop: bool = False,
) -> Proof:  # fmt: skip
    """Read an adapter of any format, pickled ones too, and write it to the folder `out`.

    `alpha` and `enabled` say what loralib's files do not; `component` which part of an image
    pipeline is meant; the base `model` (its structure is enough) tells what names cannot. What the
    target format cannot hold is refused, or with `drop` left out and listed. Raises `LorakitError`,
    nothing written, also where the result is not the same adapter.
    """
    form = next((form for form in FORMATS if form.name == to), None)
    if form is None:
        known = [form.name for form in FORMATS]
        raise SaveError(f"to={to!r}; known are {', '.join(known)}.{did_you_mean(to, known)}")
    options = Options(component, alpha, None if enabled is None else tuple(enabled))
    state = read_adapter(source, model=model, check_base=False, options=options, pickles=True)
    plain, dropped = _holdable(packed(state), form.name, drop=drop)
    modules = None if model is None else own_modules(root_of(model))
    files = form.save(plain, modules, options)
    proofs: list[Proof] = []

    def prove(written: Path) -> dict[str, bytes]:
        proof = Proof(
            os.fspath(source), str(Path(out).expanduser().resolve()), state.origin["format"],
            form.name, _compare(plain, form, written, options, modules), dropped,
            state.origin["sha256"],
        )  # fmt: skip
        proofs.append(proof)
        about = {
            "format": proof.from_format, "sha256": proof.sha256, "dropped": list(dropped),
            "largest_error": proof.largest,
        }  # fmt: skip
        told = {**summary(plain), "converted": about}
        return {manifest.MANIFEST: manifest.write(files, base=state.base, adapter=told)}

    put_files(out, files, prove)
    return proofs[0]


def relative_error(before: LowRankState, after: LowRankState, scales: tuple[float, float]) -> float:
    """|s' B' A' - s B A| / |s B A| (Frobenius), without forming a product of full size.

    [B', -B] [A'; A] is a product of rank at most r' + r; with B = Q R and A^T = Q' R' its norm is
    that of R R'^T. In float64, so that what is seen is the error of the files.
    """
    A = [before.A.double() * scales[0], after.A.double() * scales[1]]
    B = [before.B.double(), after.B.double()]
    size = _norm(A[0], B[0])
    gap = _norm(torch.cat([A[1], A[0]]), torch.cat([B[1], -B[0]], 1))
    return gap / size if size else gap


def _norm(A: Tensor, B: Tensor) -> float:
    """|B A| (Frobenius)."""
    return float(torch.linalg.norm(torch.linalg.qr(B).R @ torch.linalg.qr(A.T).R.T))


def _holdable(
    state: AdapterState, form: str, *, drop: bool
) -> tuple[AdapterState, tuple[str, ...]]:
    """The adapter without what the format has no place for, which is listed."""
    none: tuple[str, ...] = ()
    lost = [f"{path} (trained in full)" for path in state.extras]
    lost += [f"{path}.bias" for path in state.biases]
    if state.origin.get(cloneofsimo.UNNAMED):
        raise UnsupportedError(
            "The file has no names for its modules, only their order. Pass the base model, its "
            "parts in a torch.nn.ModuleDict."
        )
    tokens = [f"{token} (token embedding)" for token in state.origin.get("tokens", ())]
    if form == cloneofsimo.name:
        tokens = []
    lost = tokens if form in ("peft", "vllm", "loralib") else [*lost, *tokens]
    if not lost:
        return state, none
    if not drop:
        raise UnsupportedError(
            f"{form} has no place for {len(lost)} parts of this adapter: {shortlist(lost)}. "
            "Convert to another format, or leave them out with drop=True (--drop)."
        )
    if form == "peft":
        return state, tuple(lost)
    return replace(state, extras={}, biases={}, bias="none"), tuple(lost)


def _compare(
    state: AdapterState, form: Any, folder: Path, options: Options, modules: Any
) -> dict[str, float]:
    """The errors of what was written, read again by the same rules as anybody's file."""
    # A file without names needs the base to be read, as it did to be written.
    given = modules if form is cloneofsimo else None
    again = form.load(
        read_content(folder, pickles=True), given, replace(options, alpha=_alpha(state))
    )
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


def _alpha(state: AdapterState) -> float | None:
    """The alpha that a reader of loralib's file has to be told."""
    low = next(iter(state.low_rank.values()), None)
    return None if low is None else state.scale(low) * low.rank


def _known_as(path: str, options: Options) -> str:
    """The path with the part of the pipeline before it, and without the level that CLIP lost."""
    try:
        part, inside = part_of(path, options)
    except UnsupportedError:
        return path
    return f"{part}.{inside.removeprefix('text_model.')}"
