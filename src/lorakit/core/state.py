"""The neutral value between models and files: everything an adapter is, and nothing else."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lorakit.core.errors import AdapterFileError, UnsupportedError, shortlist
from lorakit.core.registry import require_registry, root_of
from lorakit.core.sharded import gathered
from lorakit.core.site import site_of
from lorakit.core.update import LowRank, Update
from lorakit.core.whole import BiasShift

_ANCHOR = ("A0", "B0")  # the buffers of an update's anchor


@dataclass
class LowRankState:
    """One low-rank update: A (rank, in), B (out, rank), and the alpha its scale comes from.

    Fused experts have an axis of experts before these two.
    A convolution's A is (rank, in * points of the kernel); files have its `kernel` apart. That of a
    part of a fused layer has a row of B for each of its `outputs`, of `width` in the whole layer.
    `anchor` is the (A0, B0) whose product is taken off again, `magnitude` (out,) is DoRA's, and
    `vectors` (d (rank,), b (out,)) are VeRA's: there the factors are diag(d) A and diag(b) B.
    """

    geometry: str
    A: Tensor
    B: Tensor
    alpha: float
    kernel: tuple[int, ...] = ()
    outputs: Tensor | None = None
    width: int = 0
    anchor: tuple[Tensor, Tensor] | None = None
    magnitude: Tensor | None = None
    vectors: tuple[Tensor, Tensor] | None = None

    @property
    def experts(self) -> int:
        """How many experts A and B are for; 0 where they are for one matrix."""
        return len(self.A) if self.A.dim() == 3 else 0

    @property
    def rank(self) -> int:
        """Rows of A."""
        return self.A.shape[-2]


@dataclass
class AdapterState:
    """An adapter as formats read and write it, by targets: paths in the base model, or parts.

    `biases` holds whole biases by module path, `extras` whole parameters by module path and name,
    `parameters` what methods that are not low-rank add, by target and name, with their `options`.
    `tied` names those of `tensors` that are another one's parameter, such as a head that is the
    table of embeddings. `base` is what is known of the base model, `origin` what only the format it
    came from can say.
    """

    low_rank: dict[str, LowRankState]
    biases: dict[str, Tensor] = field(default_factory=dict)
    extras: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    parameters: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    method: str = "lora"
    rslora: bool = False
    dropout: float = 0.0
    bias: str = "none"
    tied: set[str] = field(default_factory=set)
    base: dict[str, Any] = field(default_factory=dict)
    origin: dict[str, Any] = field(default_factory=dict)

    def tensors(self) -> dict[str, Tensor]:
        """All tensors under readable names, for counting and checking."""
        found: dict[str, Tensor] = {}
        for path, update in self.low_rank.items():
            found[f"{path} A"], found[f"{path} B"] = update.A, update.B
            if update.magnitude is not None:
                found[f"{path} magnitude"] = update.magnitude
            if update.vectors is not None:
                found[f"{path} d"], found[f"{path} b"] = update.vectors
        found.update({f"{path} bias": value for path, value in self.biases.items()})
        for path, values in (*self.extras.items(), *self.parameters.items()):
            found.update({f"{path} {name}": value for name, value in values.items()})
        return found

    def check_factored(self, what: str) -> None:
        """Raise `UnsupportedError` unless the adapter is made of low-rank changes to `what`."""
        if self.parameters or not self.low_rank:
            raise UnsupportedError(
                f"There is no low-rank change in this adapter to {what}: it is of the method "
                f"{self.method!r}. Name an adapter of LoRA or one of its variants."
            )

    def own(self) -> list[Tensor]:
        """The tensors that are trained, each once: without the frozen factors that layers share."""
        frozen = {f"{path} {n}" for path, low in self.low_rank.items() if low.vectors for n in "AB"}
        return [value for name, value in self.tensors().items() if name not in frozen | self.tied]

    def scale(self, low: LowRankState) -> float:
        """The factor before B A: alpha / rank, or alpha / sqrt(rank) for rsLoRA."""
        return scale_of(low.alpha, low.rank, rslora=self.rslora)

    def anchors(self) -> dict[str, Tensor]:
        """The factors that updates started from and are measured against, which no one trains."""
        pairs = {path: low.anchor for path, low in self.low_rank.items() if low.anchor}
        return {f"{path} {n}": v for path, pair in pairs.items() for n, v in zip(_ANCHOR, pair)}


def scale_of(alpha: float, rank: int, *, rslora: bool) -> float:
    """Alpha / rank (Hu et al. 2021), or alpha / sqrt(rank) (Kalajdzievski 2023)."""
    return alpha / math.sqrt(rank) if rslora else alpha / rank


def capture(model: nn.Module, name: str) -> AdapterState:
    """The state of one of the model's adapters; tensors are detached copies on the CPU."""
    entry = require_registry(model).entry(name)
    root = root_of(model)
    method = entry.method
    state = AdapterState(
        {}, method=method.name, rslora=method.rslora, dropout=method.dropout, bias=method.bias,
        options=method.options(),
    )  # fmt: skip
    shared: dict[int, torch.UntypedStorage] = {}
    for path, update in _updates(model, name):
        _capture(state, path, root.get_submodule(path), update, shared)
    once: set[int] = set()
    for label, parameter in trained_parameters(model, name):
        if id(parameter) in once:
            state.tied.add(label)
        once.add(id(parameter))
    return state


def _capture(
    state: AdapterState, path: str, layer: nn.Module, update: Update,
    shared: dict[int, torch.UntypedStorage],
) -> None:  # fmt: skip
    if isinstance(update, LowRank):
        geometry, outputs = update.geometry, update.outputs
        anchor = update.anchor
        magnitude = getattr(update, "magnitude", None)
        vectors = getattr(update, "vectors", None)
        *both, alpha = update.plain()
        if not both[0].shape[-2]:
            return
        A, B = (_copy(f) if vectors is None else _alike(f, shared) for f in both)
        state.low_rank[update.target(path)] = LowRankState(
            geometry.name, A, B, alpha, geometry.kernel(layer),
            None if outputs is None else _copy(outputs), update.width,
            None if anchor is None else (_copy(anchor[0]), _copy(anchor[1])),
            None if magnitude is None else _copy(magnitude),
            None if vectors is None else (_copy(vectors[0]), _copy(vectors[1])),
        )  # fmt: skip
    elif isinstance(update, BiasShift):
        state.biases[path] = _copy(update.bias)
    else:
        kept = state.extras if update.own else state.parameters
        values = {name: _copy(value) for name, value in update.whole().items()}
        kept.setdefault(update.target(path), {}).update(values)


def trained_parameters(model: nn.Module, name: str) -> Iterator[tuple[str, nn.Parameter]]:
    """The parameters of one adapter on the model, by the names of `AdapterState.tensors`."""
    for path, update in _updates(model, name):
        for part, parameter in update.named_parameters(remove_duplicate=False):
            yield f"{update.target(path)} {part.removeprefix('module.')}", parameter


def _anchors(model: nn.Module, name: str) -> Iterator[tuple[str, Tensor]]:
    for path, update in _updates(model, name):
        for part, value in update.named_buffers():
            if part in _ANCHOR:
                yield f"{update.target(path)} {part}", value


def _updates(model: nn.Module, name: str) -> Iterator[tuple[str, Update]]:
    entry = require_registry(model).entry(name)
    root = root_of(model)
    for path in entry.paths:
        site = site_of(root.get_submodule(path))
        assert site is not None
        for update in site.updates(entry.id).values():
            for part in update.parts():
                yield path, part


def restore(model: nn.Module, name: str, state: AdapterState) -> None:
    """Give an adapter that is on the model the values of a state: all of them, or none.

    Raises `AdapterFileError` where the two do not have the very same tensors.
    """
    held = {**dict(trained_parameters(model, name)), **dict(_anchors(model, name))}
    given = {**state.tensors(), **state.anchors()}
    if {key: p.shape for key, p in held.items()} != {key: v.shape for key, v in given.items()}:
        odd = held.keys() ^ given.keys()
        raise AdapterFileError(
            f"The tensors do not fit the adapter {name!r}: {shortlist(sorted(odd)) or 'shapes'} "
            "differ. Resume with the recipe that the checkpoint was made with."
        )
    with torch.no_grad():
        for key, parameter in held.items():
            parameter.copy_(given[key])


def digest(state: AdapterState) -> str:
    """A sha256 of what the adapter computes: the same however and wherever it was saved."""
    whole = hashlib.sha256()
    for name, value in sorted({**state.tensors(), **state.anchors()}.items()):
        whole.update(f"{name} {tuple(value.shape)}".encode())
        whole.update(value.float().contiguous().numpy().tobytes())
    for path, low in sorted(state.low_rank.items()):
        whole.update(f"{path} {low.alpha!r} {state.rslora}".encode())
    return whole.hexdigest()


def _alike(value: Tensor, seen: dict[int, torch.UntypedStorage]) -> Tensor:
    """A copy of a frozen factor that shares memory with copies of those it shared it with."""
    storage = value.untyped_storage()
    if storage.data_ptr() not in seen:
        seen[storage.data_ptr()] = storage.clone().cpu()
    kept = seen[storage.data_ptr()]
    fresh = torch.empty(0, dtype=value.dtype)
    return fresh.set_(kept, value.storage_offset(), value.shape, value.stride())


def _copy(value: Tensor) -> Tensor:
    return gathered(value.detach()).to("cpu", copy=True, memory_format=torch.contiguous_format)
