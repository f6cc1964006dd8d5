"""Does an adapter that was read belong on this model? Every answer but yes is an error."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from lorakit.core.errors import (
    ODDITIES,
    AdapterFileError,
    BaseMismatchError,
    UnsupportedError,
    did_you_mean,
)
from lorakit.core.fingerprint import difference
from lorakit.core.plan import split_target
from lorakit.core.site import own_parameters, walk
from lorakit.core.state import AdapterState, digest
from lorakit.formats.packing import packed
from lorakit.layers.form import Form
from lorakit.methods.whole import check_biased, unfolded

MERGED = "lorakit_merged"  # in a model's config: the adapters that its weights already hold


def check_state(root: nn.Module, state: AdapterState, where: str) -> None:
    """Check every tensor against the layer it is for, and settle what only the model can tell.

    Afterwards geometries are those of the layers, and whole tables that equal the base's own are
    dropped. Raises `BaseMismatchError`, or `UnsupportedError` for a layer without a form here.
    """
    modules = dict(walk(root, repeated=True))
    for target, low in state.low_rank.items():
        path = split_target(target)[0]
        layer = _module(modules, path, where)
        form = Form.of(root, target)
        geometry, (columns, rows) = form.geometry, form.size
        embeds = [name == "embedding" for name in (geometry.name, low.geometry or geometry.name)]
        kernel = geometry.kernel(layer)
        if set(kernel) <= {1} and set(low.kernel) <= {1}:
            low.kernel = kernel  # a convolution of one point is written either way
        if not low.geometry and not low.kernel:
            low.kernel = kernel  # the file has flattened it
        if embeds[0] != embeds[1] or kernel != low.kernel:
            kernel = f" with the kernel {low.kernel}" if low.kernel else ""
            raise BaseMismatchError(
                f"{where}: {path!r} is a {type(layer).__name__} in this model, but the adapter has "
                f"{low.geometry} factors{kernel} for it. Load it on the base it was trained on."
            )
        low.geometry = geometry.name
        _same(where, f"{target} A", (*form.lead, low.rank, columns), low.A)
        _same(where, f"{target} B", (*form.lead, rows, low.rank), low.B)
        if low.magnitude is not None:
            _same(where, f"{target} magnitude", (rows,), low.magnitude)
    for target in state.parameters:
        _module(modules, split_target(target)[0], where)
    _unfold(modules, state)
    for path in list(state.extras):
        _check_extra(_module(modules, path, where), path, state, where)
    both = [
        p for p, low in state.low_rank.items() if low.magnitude is not None and p in state.extras
    ]
    if both:
        raise UnsupportedError(
            f"{where}: {both[0]!r} is replaced in full and has DoRA's magnitudes as well. Load it "
            "with PEFT, or merge it there."
        )
    _check_biases(modules, state, where)


def _unfold(modules: dict[str, nn.Module], state: AdapterState) -> None:
    """Give the values of containers that were trained in full to the modules in them, in place."""
    for path in [path for path in state.extras if path in modules]:
        inner = unfolded(modules, path)
        if inner == [path]:
            continue
        for own in inner:
            state.extras.setdefault(own, {})
        for name, value in state.extras.pop(path).items():
            whole = f"{path}.{name}"
            owner = next((own for own in inner if whole.startswith(f"{own}.")), path)
            state.extras.setdefault(owner, {})[whole.removeprefix(f"{owner}.")] = value


def check_base(root: nn.Module, recorded: dict[str, Any], where: str) -> None:
    """Raise `BaseMismatchError` unless the model is the one that the manifest was written for."""
    try:
        found = difference(root, recorded)
    except ODDITIES as error:
        raise AdapterFileError(
            f"{where}: the fingerprint of the base in lorakit.json is damaged ({error!r}). Fetch "
            "the adapter again, or delete lorakit.json to load it without proof."
        ) from error
    if found is not None:
        raise BaseMismatchError(
            f"{where} was trained on another base than this model: {found}. Load the right base, "
            "or pass check_base=False to use the adapter here all the same."
        )


def check_not_merged(root: nn.Module, state: AdapterState, where: str) -> None:
    """Raise `BaseMismatchError` if the model's weights already hold this very adapter."""
    held = getattr(getattr(root, "config", None), MERGED, None) or []
    known = {entry.get("sha256") for entry in held if isinstance(entry, dict)}
    if known and digest(packed(state)) in known:
        raise BaseMismatchError(
            f"{where} is already merged into this model, so it would act twice. Load it on the "
            "base that it was trained on."
        )


def _module(modules: dict[str, nn.Module], path: str, where: str) -> nn.Module:
    module = modules.get(path)
    if module is None or not path:
        raise BaseMismatchError(
            f"{where} has tensors for {path!r}, which this model does not have."
            f"{did_you_mean(path, modules)} Load the adapter on the base it was trained on."
        )
    return module


def _same(where: str, what: str, expected: tuple[int, ...], value: torch.Tensor) -> None:
    if tuple(value.shape) == expected:
        return
    hint = "Load the adapter on the base it was trained on."
    if "embed" in what or "lm_head" in what:
        hint += " If its vocabulary grew, call model.resize_token_embeddings first."
    raise BaseMismatchError(
        f"{where}: {what} has shape {tuple(value.shape)}; this model needs {expected}. {hint}"
    )


def _check_extra(module: nn.Module, path: str, state: AdapterState, where: str) -> None:
    own = own_parameters(module)
    values = state.extras[path]
    carried = path in state.origin.get("carried", ())
    for name, value in values.items():
        if name not in own:
            raise BaseMismatchError(
                f"{where} has a tensor {path}.{name}, which {type(module).__name__} in this model "
                "does not have. Load the adapter on the base it was trained on."
            )
        _same(where, f"{path}.{name}", tuple(own[name].shape), value)
    missing = next((name for name in own if name not in values), None)
    if missing is not None and not carried:
        raise AdapterFileError(
            f"{where} lacks {path}.{missing}: {path!r} was trained in full, so all of it must be "
            "there. Fetch or save the adapter again."
        )
    if carried:
        if all(_equal(value, own[name]) for name, value in values.items()):
            del state.extras[path]
        else:
            for name in own.keys() - values.keys():
                values[name] = own[name].detach()


def _equal(value: torch.Tensor, own: torch.Tensor) -> bool:
    # A structure without weights cannot say; then what the file has is kept.
    return not own.is_meta and torch.equal(value.to(own), own)


def _check_biases(modules: dict[str, nn.Module], state: AdapterState, where: str) -> None:
    seen: dict[int, str] = {}
    for path in sorted(state.biases, key=lambda path: not _adds_last(modules.get(path))):
        module = _module(modules, path, where)
        own = own_parameters(module).get("bias")
        value = state.biases[path]
        if own is None:
            raise BaseMismatchError(f"{where} has a bias for {path!r}, which here has none.")
        _same(where, f"{path}.bias", tuple(own.shape), value)
        twin = seen.setdefault(id(own), path)
        if twin != path:
            # One bias under two names (a head's, tied): the layer that adds it answers for both.
            if not torch.equal(value, state.biases[twin]):
                raise AdapterFileError(
                    f"{where} has two values for one bias: {twin!r} and {path!r} are tied here."
                )
            del state.biases[path]
            continue
        check_biased(module, path)


def _adds_last(module: nn.Module | None) -> bool:
    return module is not None and hasattr(module, "weight")
