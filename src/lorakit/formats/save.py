"""`save`: an adapter from a model into a folder, all of it or nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from lorakit.core.errors import AdapterNameError, SaveError, did_you_mean, shortlist
from lorakit.core.fingerprint import fingerprint
from lorakit.core.folder import whole_folder
from lorakit.core.inject import adapters
from lorakit.core.registry import root_of
from lorakit.core.sharded import class_of
from lorakit.core.site import own_modules
from lorakit.core.state import AdapterState, capture
from lorakit.formats import FORMATS, manifest, own, peft, vera
from lorakit.formats.content import Options
from lorakit.formats.files import keeps_from, why_not_replace
from lorakit.formats.packing import described, packed
from lorakit.formats.proof import compare, holdable, untold
from lorakit.formats.tensors import is_finite
from lorakit.methods.vera import VeRA

# The endings of transformers' classes, and PEFT's words for what they are for.
_TASKS = {
    "ForCausalLM": "CAUSAL_LM",
    "LMHeadModel": "CAUSAL_LM",
    "ForConditionalGeneration": "SEQ_2_SEQ_LM",
    "ForSequenceClassification": "SEQ_CLS",
    "ForTokenClassification": "TOKEN_CLS",
    "ForQuestionAnswering": "QUESTION_ANS",
}


def save(
    model: nn.Module, folder: str | os.PathLike, *, name: str | None = None, format: str = "peft",
    run: dict[str, Any] | None = None,
) -> Path:  # fmt: skip
    """Write one adapter to a folder, with a manifest; return the folder.

    An adapter that is there is replaced in one step, files of others beside it are kept, and any
    other folder with content is refused. `name` may be left out where the model has one adapter.
    `run` is kept in the manifest. A model that is sharded over processes is saved by all of them,
    each into a folder of its own. Raises `SaveError`, nothing written.
    """
    form = next((form for form in FORMATS if form.name == format), None)
    if form is None:
        known = [form.name for form in FORMATS]
        raise SaveError(
            f"format={format!r}; known are {', '.join(known)}.{did_you_mean(format, known)}"
        )
    label = the_adapter(model, name)
    files = adapter_files(model, label, form=form, run=run)

    def prove(written: Path) -> dict[str, bytes]:
        if form not in (peft, vera):  # another's format: what it makes of the adapter is looked at
            root = root_of(model)
            compare(packed(capture(root, label)), form, written, Options(), own_modules(root))
        return {}

    return put_files(folder, files, prove)


def put_files(
    folder: str | os.PathLike, files: dict[str, bytes],
    prove: Callable[[Path], dict[str, bytes]] | None = None,
) -> Path:  # fmt: skip
    """Let the files be an adapter's folder, in one step; return the folder.

    `prove` looks at what was written, before it counts, and may add files or raise.
    """
    with whole_folder(folder, why_not_replace) as partial:
        final = Path(folder).expanduser().resolve()
        for kept in keeps_from(final) if final.is_dir() else ():
            shutil.copy2(kept, partial / kept.name)
        for file, content in files.items():
            (partial / file).write_bytes(content)
        for file, content in (prove(partial) if prove else {}).items():
            (partial / file).write_bytes(content)
    return final


def write_adapter(
    state: AdapterState, folder: str | os.PathLike, about: dict[str, Any] | None = None
) -> Path:
    """Write an adapter that is on no model; `about` is added to what its manifest says of it."""
    _check_finite(state, os.fspath(folder))
    files = peft.save(packed(state), None, Options())
    told = {**summary(state), **(about or {})}
    files[manifest.MANIFEST] = manifest.write(files, base=state.base, adapter=told)
    return put_files(folder, files)


def adapter_files(
    model: nn.Module, name: str, *, form: Any = peft, run: dict[str, Any] | None = None
) -> dict[str, bytes]:
    """What `save` writes: the format's files and the manifest, by name."""
    root = root_of(model)
    state = capture(root, name)
    _check_finite(state, name)
    state.base = base_identity(root, state)
    if form is peft:
        form = _native(state)
    plain, _ = holdable(state if form in (own, vera) else packed(state), form.name)
    files = form.save(plain, own_modules(root), Options())
    asked = untold(form, plain, own_modules(root))
    # Only PEFT's folders are brought back into the form that the model has it in.
    told = summary(state if form in (own, peft, vera) else plain)
    told |= {"untold": asked} if asked else {}
    proof = manifest.write(files, base=state.base, adapter=told, run=run)
    return {**files, manifest.MANIFEST: proof}


def _native(state: AdapterState) -> Any:
    """The form of an adapter's folder: PEFT's, unless it has none for the method."""
    if state.parameters:
        return own
    return vera if state.method == VeRA.name and state.low_rank else peft


def the_adapter(model: nn.Module, name: str | None) -> str:
    """`name`, or the model's only adapter."""
    if name is not None:
        return name
    names = adapters(model)
    if len(names) != 1:
        have = shortlist(map(repr, names)) if names else "none"
        raise AdapterNameError(f"Which adapter is meant? The model has {have}. Pass name=...")
    return names[0]


def base_identity(root: nn.Module, state: AdapterState) -> dict[str, Any]:
    """What a manifest says of the base: name, class, task, and fingerprint."""
    kind = class_of(root)
    path = getattr(root, "name_or_path", None) or getattr(
        getattr(root, "config", None), "_name_or_path", None
    )
    return {
        "name": path if isinstance(path, str) and path else None,
        "class": kind,
        "task": next((task for end, task in _TASKS.items() if kind.endswith(end)), None),
        "fingerprint": fingerprint(root, without=list(state.extras)),
    }


def summary(state: AdapterState) -> dict[str, Any]:
    """The adapter in a few numbers."""
    special = described(state)
    return {
        **({"packed": special} if special else {}),
        **({vera.INPUTS: vera.inputs_of(state)} if state.method == VeRA.name else {}),
        "method": state.method,
        "layers": len(state.low_rank) + len(state.parameters),
        "parameters": sum(value.numel() for value in state.own()),
        "ranks": sorted({low.rank for low in state.low_rank.values()}),
        "extras": list(state.extras),
    }


def _check_finite(state: AdapterState, label: str) -> None:
    broken = [key for key, value in state.tensors().items() if not is_finite(value)]
    if broken:
        raise SaveError(
            f"{label!r} holds values that are not finite, in {shortlist(broken)}: its training "
            "diverged. Go back to an earlier checkpoint, and lower the learning rate."
        )
    off = [path for path, low in state.low_rank.items() if not low.alpha]
    if off:
        raise SaveError(
            f"{label!r} has the strength 0 at {shortlist(off)}, which no file can say. Load it "
            "again, or leave these layers out of the plan."
        )
