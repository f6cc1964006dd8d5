"""How A and B start, where it is not at random and at zero: what every initialiser has to be."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from lorakit.core.errors import PlanError, UnsupportedError, shortlist
from lorakit.core.update import Call, first_input
from lorakit.layers import MATRICES
from lorakit.layers.form import Form


class Factors(NamedTuple):
    """A (rank, in) and B (out, rank) of one update, and their anchor: where they count as zero."""

    A: Tensor
    B: Tensor
    anchor: tuple[Tensor, Tensor] | None = None


class Place(NamedTuple):
    """One target that wants factors: its form on the model, its rank and its scale."""

    form: Form
    rank: int
    scale: float


Places = Mapping[str, Place]


class Initialiser(Protocol):
    """One way to start; one file each. `start` changes nothing on the model."""

    def start(self, root: nn.Module, places: Places) -> dict[str, Factors]:
        """Factors for every target, in float32 or wider."""
        ...


class FromWeight(NamedTuple):
    """A start that the weight alone decides: (weight, rank, scale) -> A, B, anchored there."""

    name: str
    factors: Callable[[Tensor, int, float], tuple[Tensor, Tensor]]

    def start(self, root: nn.Module, places: Places) -> dict[str, Factors]:
        """Factors for every target, and themselves as anchors: the update starts at zero."""
        del root
        require_matrices(self.name, places)
        check_ranks(self.name, places)
        found = {}
        for target, (form, rank, scale) in places.items():
            weight = form.matrix()
            check_finite(self.name, target, "the weights of", weight)
            A, B = self.factors(weight, rank, scale)
            found[target] = Factors(A, B, (A.clone(), B.clone()))
        return found


def check_number(value: object, where: str, *, least: float | None = None) -> None:
    """Raise `PlanError` unless the value is a finite number, of at least `least` if that is set."""
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not good or (least is not None and value < least):  # type: ignore[operator]
        some = "" if least is None else f" of at least {least:g}"
        raise PlanError(f"{where} is {value!r}; expected a finite number{some}.")


def check_finite(name: str, target: str, what: str, values: Tensor) -> None:
    """Raise `PlanError` where something to start from is not finite."""
    if not torch.isfinite(values).all():
        raise PlanError(
            f"init={name!r}: {what} {target!r} are not finite. Look at the data and at the base's "
            "weights, or leave the layer out of the plan."
        )


def check_ranks(name: str, places: Places) -> None:
    """Raise `PlanError` for a rank that is more than the layer's matrix has."""
    for target, place in places.items():
        most = min(place.form.size)
        if place.rank > most:
            raise PlanError(
                f"init={name!r} takes rank {place.rank} for {target!r}, whose matrix has at most "
                f"{most}. Lower the rank there."
            )


def require_matrices(name: str, places: Places) -> None:
    """Raise `UnsupportedError` for fused experts, whose weights are many matrices at once."""
    fused = [target for target, place in places.items() if place.form.lead]
    if fused:
        raise UnsupportedError(
            f"init={name!r} starts from one matrix for each target, and {shortlist(fused)} has one "
            "for each expert. Leave it out of the plan, or use the default start."
        )


def require_products(name: str, places: Places) -> None:
    """Raise `UnsupportedError` unless every target is a matrix product, y = x W^T."""
    other = [t for t, p in places.items() if p.form.geometry.name not in MATRICES]
    if other:
        raise UnsupportedError(
            f"init={name!r} starts from what goes through matrix products, and {shortlist(other)} "
            "is none. Leave it out of the plan, or give it an adapter of its own."
        )


@contextmanager
def watched(layers: Mapping[str, nn.Module], look: Callable[..., Any]) -> Iterator[None]:
    """Call look(path, x, y) after every forward of the layers in this thread, for a block's length.

    Where `look` returns something, that is the layer's output from then on.
    """
    mine = threading.get_ident()

    def hook(path: str) -> Callable[..., Any]:
        def seen(_: nn.Module, args: tuple, kwargs: dict[str, Any], y: Tensor) -> Any:
            if threading.get_ident() != mine:  # the model may answer others meanwhile
                return None
            return look(path, first_input(Call(args, kwargs, y)), y)

        return seen

    handles = [
        layer.register_forward_hook(hook(path), with_kwargs=True) for path, layer in layers.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def layers_of(places: Places) -> dict[str, nn.Module]:
    """The layers of the targets by path, each once."""
    return {place.form.path: place.form.layer for place in places.values()}


@contextmanager
def answering(root: nn.Module) -> Iterator[None]:
    """The model in eval mode, for the length of a block; each module gets its own mode back."""
    modes = [(module, module.training) for module in root.modules()]
    root.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def rows_of(x: Tensor, mask: Tensor | None) -> Tensor:
    """What went into a layer as rows (count, in) in float32, without those of padding."""
    rows = x.detach().reshape(-1, x.shape[-1]).float()
    if mask is not None and mask.shape == x.shape[:-1]:
        rows = rows[mask.reshape(-1).bool()]
    return rows


def run_batch(root: nn.Module, batch: Any) -> Any:
    """The model's answer to a batch: a mapping of its arguments, a tuple of them, or a tensor."""
    if isinstance(batch, Mapping):
        return root(**batch)
    return root(*batch) if isinstance(batch, (tuple, list)) else root(batch)


def mask_of(batch: Any, path: str) -> Tensor | None:
    """The mask of padding that a layer's input has in a batch, of two dimensions, if it has one."""
    if not isinstance(batch, Mapping):
        return None
    decoding = "decoder_input_ids" in batch or "decoder_attention_mask" in batch
    name = "decoder_attention_mask" if decoding and "decoder" in path else "attention_mask"
    mask = batch.get(name)
    if decoding and "decoder" in path and ("encoder_attn" in path or "EncDec" in path):
        return None  # keys and values come from the encoder, queries do not: the shape cannot tell
    return mask if isinstance(mask, torch.Tensor) and mask.dim() == 2 else None
