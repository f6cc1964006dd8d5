"""`extract`: the adapter in a full fine-tune, as near as a rank, an energy or a budget allows.

The difference of the two models' weights is cut by its singular values, one layer at a time. Norms
and biases are small and are kept whole.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from lorakit.analysis.factored import Spectrum
from lorakit.analysis.resize import budgeted, check_size
from lorakit.core.errors import BaseMismatchError, ModelError, UnsupportedError, shortlist
from lorakit.core.fingerprint import fingerprint
from lorakit.core.registry import root_of
from lorakit.core.site import own_parameters
from lorakit.core.state import AdapterState, LowRankState
from lorakit.core.whole import with_values
from lorakit.formats.proof import Written
from lorakit.formats.save import write_adapter
from lorakit.layers import geometry_of
from lorakit.layers.norm import is_norm
from lorakit.methods.whole import adds_bias_last
from lorakit.models.load import named_structure

Model = nn.Module | str | os.PathLike


@dataclass(frozen=True)
class Extracted(Written):
    """Ranks, and the relative error of each layer's change; what changed and was left out."""

    ranks: dict[str, int]
    whole: list[str]
    parameters: int
    dropped: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [
            f"{len(self.ranks)} layers of rank {min(self.ranks.values(), default=0)} to "
            f"{max(self.ranks.values(), default=0)} in {self.folder}, {self.parameters:,} "
            f"parameters; largest relative error of a change {self.largest:.2g}"
        ]
        if self.whole:
            lines.append(f"kept whole: {shortlist(self.whole)}")
        if self.dropped:
            lines.append(f"left out: {shortlist(self.dropped)}")
        return "\n".join(lines)


def extract(
    base: Model, tuned: Model, *, rank: int | None = None, energy: float | None = None,
    params: int | None = None, drop: bool = False, out: str | os.PathLike,
    progress: Callable[[int, int], None] | None = None,
) -> Extracted:  # fmt: skip
    """Write to the folder `out` the adapter that makes `base` as like `tuned` as its size allows.

    Both are models, or their folders, of which one tensor is read at a time. The size is one of
    `rank`, `energy` (share of each change's squared norm) and `params` (see `lorakit.resize`). What
    changed and can be no part of an adapter is refused, or with `drop` left out and listed.
    `progress` hears of (layers done, layers in all). Raises `LorakitError`, nothing written.
    """
    check_size(rank, energy, params)
    root = root_of(base) if isinstance(base, nn.Module) else named_structure(os.fspath(base))
    old, new = _weights(base, root), _weights(tuned, root)
    _check_alike(old, new)
    state = AdapterState({})
    spectra: dict[str, Spectrum] = {}
    seen: set[str] = set()
    layers = [(path, layer) for path, layer in root.named_modules() if geometry_of(layer)]
    for place, (path, layer) in enumerate(layers, 1):
        name = f"{path}.weight"
        seen.add(name)
        if name in old and not torch.equal(before := old[name], after := new[name]):
            spectra[path] = _spectrum(layer, before, after, rank, params)
        if progress is not None:
            progress(place, len(layers))
    ranks = (
        budgeted(spectra, params) if params is not None
        else {p: rank or s.rank_for(energy or 1.0) for p, s in spectra.items()}
    )  # fmt: skip
    errors: dict[str, float] = {}
    for path, spectrum in spectra.items():
        A, B, errors[path] = spectrum.cut(ranks[path])
        layer = root.get_submodule(path)
        geometry = geometry_of(layer)
        assert geometry is not None
        kernel = geometry.kernel(layer)
        state.low_rank[path] = LowRankState(geometry.name, A, B, float(len(A)), kernel)
    dropped = _whole(root, old, new, seen, state, drop=drop)
    if isinstance(base, nn.Module):
        without = list(state.extras)
        state.base = {"fingerprint": fingerprint(base, without=without), "name": None}
    else:
        state.base = {"name": os.fspath(base)}
    folder = write_adapter(state, Path(out))
    size = sum(value.numel() for value in state.tensors().values())
    found = {path: low.rank for path, low in state.low_rank.items()}
    return Extracted(str(folder), errors, found, [*state.extras, *state.biases], size, dropped)


class _Files:
    """The tensors of a model's folder by name, one read at a time.

    A tied weight is on disk once, and is found here under all the names that the model has for it.
    """

    def __init__(self, folder: Path, root: nn.Module):
        index = folder / "model.safetensors.index.json"
        self.where: dict[str, Path] = {}
        try:
            if index.is_file():
                listed = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
                self.where = {name: folder / Path(file).name for name, file in listed.items()}
            else:
                file = folder / "model.safetensors"
                with safe_open(file, "pt") as opened:
                    self.where = dict.fromkeys(opened.keys(), file)
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise ModelError(
                f"{folder} holds no weights that can be read as safetensors ({error}). Save the "
                "model with save_pretrained."
            ) from error
        named = own_parameters(root)
        real = {id(named[name]): name for name in self.where if name in named}
        self.alias = {name: real[id(p)] for name, p in named.items() if id(p) in real}
        self.unknown = self.where.keys() - named.keys()

    def __contains__(self, name: object) -> bool:
        return name in self.alias

    def __iter__(self) -> Iterator[str]:
        return iter(self.alias)

    def __getitem__(self, name: str) -> Tensor:
        real = self.alias[name]
        with safe_open(self.where[real], "pt") as opened:
            return opened.get_tensor(real)


def _weights(model: Model, root: nn.Module) -> Any:
    if isinstance(model, nn.Module):
        return {name: p.detach() for name, p in own_parameters(root_of(model)).items()}
    return _Files(Path(model).expanduser(), root)


def _unknown(weights: Any) -> set[str]:
    """What a folder holds beside the parameters of the base's class."""
    return weights.unknown if isinstance(weights, _Files) else set()


def _check_alike(old: Any, new: Any) -> None:
    odd = sorted((set(old) | _unknown(old)) ^ (set(new) | _unknown(new)))
    if odd:
        raise BaseMismatchError(
            f"The two models do not have the same tensors: {shortlist(odd)} is in one alone. "
            "Extract from a fine-tune of this very base."
        )


def _spectrum(
    layer: nn.Module, before: Tensor, after: Tensor, rank: int | None, params: int | None
) -> Spectrum:
    if before.shape != after.shape:
        raise BaseMismatchError(
            f"A weight has shape {tuple(before.shape)} in the base and {tuple(after.shape)} in the "
            "fine-tune. Resize the base's vocabulary first."
        )
    geometry = geometry_of(layer)
    assert geometry is not None
    change = nn.Parameter(after.double() - before.double(), requires_grad=False)
    whole = Spectrum.of_dense(geometry.matrix(with_values(layer, {"weight": change})))
    if params is None and rank is None:
        return whole
    # All singular values, but only the vectors that can be asked for.
    most = rank or max(1, (params or 0) // (len(whole.U) + len(whole.V)))
    return Spectrum(whole.U[:, :most].clone(), whole.S, whole.V[:, :most].clone())


def _whole(
    root: nn.Module, old: Any, new: Any, seen: set[str], state: AdapterState, *, drop: bool
) -> list[str]:
    """Norms and biases that changed, put into the state; the names of what has no place there."""
    left: list[str] = []
    for name in old:
        if name in seen or torch.equal(before := old[name], after := new[name]):
            continue
        path, _, parameter = name.rpartition(".")
        module = root.get_submodule(path)
        if is_norm(module) and before.shape == after.shape:
            state.extras[path] = {p: new[f"{path}.{p}"].clone() for p in own_parameters(module)}
        elif parameter == "bias" and adds_bias_last(module) and before.shape == after.shape:
            state.biases[path] = after.clone()
        else:
            left.append(name)
    if left and not drop:
        raise UnsupportedError(
            f"{shortlist(left)} changed, which can be no part of an adapter. Pass drop=True "
            "(--drop) to leave it out."
        )
    state.bias = "all" if state.biases else "none"
    return left
