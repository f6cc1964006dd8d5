"""`load`: an adapter from disk onto a model, right or not at all."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from lorakit.core.errors import AdapterFileError, shortlist
from lorakit.core.inject import InjectReport, attach, check_addition
from lorakit.core.registry import STRUCTURE, root_of
from lorakit.core.site import own_modules, own_parameters
from lorakit.core.state import AdapterState
from lorakit.formats import FORMATS, peft
from lorakit.formats.check import check_base, check_not_merged, check_state
from lorakit.formats.components import fit
from lorakit.formats.content import Content, Options, read_content
from lorakit.formats.manifest import read
from lorakit.formats.packing import unpack
from lorakit.layers.quantised import settled
from lorakit.methods import BitFit, Full, LoRA, LoRAFA, NormTuning, Probe, Top, method_named

# Methods whose folders are those of LoRA, so that our manifest alone tells them apart.
_SAME_ON_DISK = [kind.name for kind in (LoRAFA, Full, Top, BitFit, NormTuning, Probe)]


def load(
    model: nn.Module, folder: str | os.PathLike, *, name: str = "default",
    trainable: bool = False, check_base: bool = True, component: str | None = None,
) -> InjectReport:  # fmt: skip
    """Put the adapter in `folder` on the model, under `name`; the format is known by its content.

    A file for several parts of an image pipeline goes onto one of them (`component="unet"`), or
    onto a `torch.nn.ModuleDict` that holds them by name.

    Every key, shape and value is checked first, and so is the base where the adapter says which it
    belongs to (`check_base=False` skips only that). `trainable` lets training go on from here.
    Raises `AdapterFileError`, `BaseMismatchError` or `UnsupportedError`, the model untouched.
    """
    with STRUCTURE:
        check_addition(model, name)
        root = root_of(model)
        options = Options(component=component)
        state = read_adapter(folder, model=root, check_base=check_base, options=options)
        wide = any(value.dtype == torch.float64 for value in state.tensors().values())
        dtype = torch.float64 if wide else torch.float32
        method = method_named(state.method).of(state, dtype)
        updates = method.restored(root, state)
        if not trainable:
            for kinds in updates.values():
                for update in kinds.values():
                    for parameter in own_parameters(update).values():
                        parameter.requires_grad_(False)
        with settled(root, training=trainable):
            return attach(model, name, updates, method=method)


def read_adapter(
    folder: str | os.PathLike, *, model: nn.Module | None = None, check_base: bool = True,
    options: Options | None = None, pickles: bool = False,
) -> AdapterState:  # fmt: skip
    """The adapter at a path, as a value; checked against a model if one is given."""
    content = read_content(folder, pickles=pickles)
    return adapter_in(content, model=model, check_base=check_base, options=options)


def adapter_in(
    content: Content, *, model: nn.Module | None = None, check_base: bool = True,
    options: Options | None = None,
) -> AdapterState:  # fmt: skip
    """The adapter in what was read from a path, as `read_adapter` gives it."""
    chosen = options or Options()
    where = content.where
    form = next((form for form in FORMATS if form.matches(content)), None)
    if form is None:
        known = ", ".join(form.name for form in FORMATS)
        raise AdapterFileError(
            f"{where} holds no adapter of a known format ({known}); its tensors are called "
            f"{shortlist(content.tensors)}."
        )
    manifest = read(content.files, where)
    chosen = _told(chosen, (manifest or {}).get("adapter", {}).get("untold"), where)
    root = None if model is None else root_of(model)
    paths = None if root is None else own_modules(root)
    state = form.load(content, paths, chosen)
    part = None if paths is None else fit(state, paths, chosen, where)
    state.origin |= {"manifest": manifest, "format": form.name, "guess": chosen.guess}
    state.base = (manifest or {}).get("base") or state.base
    told = (manifest or {}).get("adapter", {}).get("method")
    if form is peft and told in _SAME_ON_DISK and state.method == LoRA.name:
        state.method = told
    if root is not None:
        what = (manifest or {}).get("adapter", {}).get("packed")
        if what and form is peft:
            unpack(root, state, what, where)
        recorded = _of_part((manifest or {}).get("base", {}).get("fingerprint"), part)
        _check(root, state, where, recorded if check_base else None)
    return state


def _told(options: Options, untold: Any, where: str) -> Options:
    """The options with what our manifest says beside a file that does not say it."""
    told = untold if isinstance(untold, dict) else {}
    alpha, enabled = told.get("alpha"), told.get("enabled")
    alpha = float(alpha) if isinstance(alpha, (int, float)) else None
    blocks = tuple(map(bool, enabled)) if isinstance(enabled, list) else None
    given = (None if options.guess else options.alpha, options.enabled)
    for name, mine, known in zip(("alpha", "enabled"), given, (alpha, blocks)):
        if None not in (mine, known) and mine != known:
            raise AdapterFileError(
                f"{where}: {name} is {known} by lorakit.json, and {mine} was passed. Leave it out, "
                "or delete lorakit.json."
            )
    return replace(
        options, guess=options.guess and alpha is None,
        alpha=options.alpha if alpha is None else alpha,
        enabled=options.enabled if blocks is None else blocks,
    )  # fmt: skip


def _of_part(recorded: Any, part: str | None) -> Any:
    """The fingerprint of one part of a pipeline, out of that of the whole."""
    if part is None or not isinstance(recorded, dict):
        return recorded
    tensors = dict(recorded.get("tensors") or {})
    inside = {n.removeprefix(f"{part}."): v for n, v in tensors.items() if n.startswith(f"{part}.")}
    return {**recorded, "tensors": inside or tensors}


def _check(root: nn.Module, state: AdapterState, where: str, recorded: Any) -> None:
    check_state(root, state, where)
    check_not_merged(root, state, where)
    if recorded is not None:
        _check_base(root, recorded, where)


_check_base = check_base  # `load` and `read_adapter` have a switch of the same name
