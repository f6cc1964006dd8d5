"""`convert`: an adapter from one format into another, with the largest error of each module.

Nothing is taken on trust: what was written is read again, and the change that each module makes is
compared on both sides.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from lorakit.core.errors import PlanError, SaveError, did_you_mean, shortlist
from lorakit.core.registry import root_of
from lorakit.core.site import own_modules
from lorakit.core.state import AdapterState
from lorakit.formats import FORMATS, manifest
from lorakit.formats.components import part_of
from lorakit.formats.content import Options, read_content
from lorakit.formats.load import adapter_in
from lorakit.formats.packing import packed
from lorakit.formats.proof import Written, compare, holdable, untold
from lorakit.formats.save import put_files, summary


@dataclass(frozen=True)
class Proof(Written):
    """What a conversion did, what it left out, and what the new file does not say of itself."""

    source: str
    from_format: str
    to_format: str
    dropped: tuple[str, ...]
    untold: dict[str, Any]
    sha256: str

    def __str__(self) -> str:
        lines = [
            f"{self.from_format} -> {self.to_format}: {len(self.errors)} modules in {self.folder}; "
            f"largest relative error of a change {self.largest:.2g}"
        ]
        if self.untold:
            told = ", ".join(f"{key}={value}" for key, value in self.untold.items())
            lines.append(f"its reader has to be told: {told}")
        if self.dropped:
            lines.append(f"left out: {shortlist(self.dropped, 8)}")
        return "\n".join(lines)


def convert(
    source: str | os.PathLike, out: str | os.PathLike, *, to: str = "peft",
    model: nn.Module | None = None, component: str | None = None, alpha: float | None = None,
    enabled: Sequence[bool] | None = None, drop: bool = False,
) -> Proof:  # fmt: skip
    """Read an adapter of any format, pickled ones too, and write it to the folder `out`.

    `alpha` and `enabled` say what files of loralib, torchtune and litgpt do not; `component` which
    part of an image pipeline is meant; the base `model` (its structure is enough) tells what names
    cannot, and is needed for torchtune, litgpt and gguf. What the
    target format cannot hold is refused, or with `drop` left out and listed. Raises `LorakitError`,
    nothing written, also where the result is not the same adapter.
    """
    form = next((form for form in FORMATS if form.name == to), None)
    if form is None:
        known = [form.name for form in FORMATS]
        raise SaveError(f"to={to!r}; known are {', '.join(known)}.{did_you_mean(to, known)}")
    options = Options(component, alpha, None if enabled is None else tuple(enabled))
    content = read_content(source, pickles=True)
    state = adapter_in(content, model=model, check_base=False, options=options)
    plain, dropped = holdable(packed(state), form.name, drop=drop)
    if component is not None:
        plain, others = _only(plain, options)
        dropped += others
    modules = None if model is None else own_modules(root_of(model))
    files = form.save(plain, modules, options)
    asked = untold(form, plain, modules)
    proofs: list[Proof] = []

    def prove(written: Path) -> dict[str, bytes]:
        proof = Proof(
            str(Path(out).expanduser().resolve()),
            compare(plain, form, written, options, modules),
            source=os.fspath(source),
            from_format=state.origin["format"],
            to_format=form.name,
            dropped=dropped,
            untold=asked,
            sha256=content.sha256(),
        )
        proofs.append(proof)
        about = {
            "format": proof.from_format, "sha256": proof.sha256, "dropped": list(dropped),
            "largest_error": proof.largest,
        }  # fmt: skip
        told = {**summary(plain), "converted": about, **({"untold": asked} if asked else {})}
        return {manifest.MANIFEST: manifest.write(files, base=state.base, adapter=told)}

    put_files(out, files, prove)
    return proofs[0]


def _only(state: AdapterState, options: Options) -> tuple[AdapterState, tuple[str, ...]]:
    """One part of a pipeline, and the paths of the others."""
    parts = {path: part_of(path, options)[0] for path in state.low_rank}
    mine = {p: low for p, low in state.low_rank.items() if parts[p] == options.component}
    if not mine:
        raise PlanError(
            f"The adapter has nothing for {options.component!r}; it is for "
            f"{shortlist(sorted(set(parts.values())))}."
        )
    others = tuple(path for path in state.low_rank if path not in mine)
    return replace(state, low_rank=mine), others
