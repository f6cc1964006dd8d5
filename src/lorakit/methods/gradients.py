"""The loss's gradient for the weights of layers, which stay as they are and get no `.grad`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lorakit.core.errors import PlanError, UnsupportedError
from lorakit.core.whole import with_values
from lorakit.layers import MATRICES
from lorakit.layers.experts import ExpertsGeometry
from lorakit.layers.form import Form
from lorakit.methods.start import answering, run_batch, watched

Loss = Callable[[Any], Tensor]


def own_loss(output: Any) -> Tensor:
    """The loss that a model's answer has, as those of transformers do where they got labels."""
    loss = getattr(output, "loss", None)
    if not isinstance(loss, Tensor):
        raise UnsupportedError(
            "A loss is needed, and the model's answer has none. Put labels into the batches, or "
            "pass loss=..., a function of the model's output."
        )
    return loss


def weight_gradients(
    root: nn.Module, forms: Mapping[str, Form], batches: Iterable[Any], loss: Loss, *, who: str
) -> dict[str, Tensor]:
    """dL/dW (out, in) of every target, added up over the batches, in float32.

    Fused experts have their axis before these two. `who` begins the messages. The gradients of all
    targets are held at once.
    """
    found: dict[str, Tensor] = {}
    leaves: list[tuple[Callable[[Tensor], None], Tensor]] = []
    products = {f.path: f.layer for f in forms.values() if f.geometry.name in MATRICES}
    others = {t: f for t, f in forms.items() if f.geometry.name not in MATRICES}

    def keep(name: str, more: Tensor) -> None:
        found[name] = found[name] + more if name in found else more

    def look(path: str, x: Tensor, y: Tensor) -> Tensor:
        _check_mode(path, who)
        # Frozen layers below make no graph of their own: a zero that wants a gradient does.
        zero = torch.zeros((), dtype=y.dtype, device=y.device, requires_grad=True)
        leaves.append((lambda _: None, zero))
        y = y + zero
        y.register_hook(_product_of(x.detach(), lambda more: keep(path, more)))
        return y

    with answering(root), torch.enable_grad(), ExitStack() as stack:
        stack.enter_context(watched(products, look))
        stack.enter_context(_standing_in(others, leaves, keep, who))
        for batch in batches:
            leaves.clear()
            value = loss(run_batch(root, batch))
            _check_loss(value, who)
            if leaves and value.requires_grad:
                # To the leaves alone: gradients of anything else that is trained stay as they are.
                made = torch.autograd.grad(value, [v for _, v in leaves], allow_unused=True)
                for (take, _), gradient in zip(leaves, made):
                    if gradient is not None:
                        take(gradient)
    missing = next((n for n in (*products, *others) if n not in found), None)
    if missing is not None:
        raise PlanError(
            f"{who}: no gradient reached {missing!r}; it was given no batch, or the loss does not "
            "depend on it. Pass batches, or leave it out of the plan."
        )
    return {target: _rows_of(found, target, form) for target, form in forms.items()}


def _product_of(x: Tensor, keep: Callable[[Tensor], None]) -> Callable[[Tensor], None]:
    """What turns the gradient of a product's output into that of its weight."""

    def add(gradient: Tensor) -> None:
        own = gradient.reshape(-1, gradient.shape[-1]).float()
        keep(own.T @ x.reshape(-1, x.shape[-1]).float())

    return add


@contextmanager
def _standing_in(
    forms: Mapping[str, Form], leaves: list[Any], keep: Callable[[str, Tensor], None], who: str
) -> Iterator[None]:
    """Let layers that are no products answer again with a weight that wants a gradient."""
    mine = threading.get_ident()

    def hook(layers: dict[str, Form]) -> Callable[..., Any]:
        form = next(iter(layers.values()))

        def again(layer: nn.Module, args: tuple, kwargs: dict[str, Any], _: Any) -> Any:
            if threading.get_ident() != mine:  # the model may answer others meanwhile
                return None
            _check_mode(form.path, who)
            values = {}
            for target, own in layers.items():
                name = _parameter(own)
                weight = layer._parameters[name]
                assert weight is not None
                values[name] = leaf = weight.detach().requires_grad_()

                def take(gradient: Tensor, target: str = target, name: str = name) -> None:
                    shell = with_values(layer, {name: gradient.float()})
                    keep(target, layers[target].geometry.matrix(shell))

                leaves.append((take, leaf))
            return type(layer).forward(with_values(layer, values), *args, **kwargs)

        return again

    by_path: dict[str, dict[str, Form]] = {}
    for target, form in forms.items():
        by_path.setdefault(form.path, {})[target] = form
    handles = [
        next(iter(own.values())).layer.register_forward_hook(hook(own), with_kwargs=True)
        for own in by_path.values()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _parameter(form: Form) -> str:
    """The name of the parameter that a form is of."""
    geometry = form.geometry
    return geometry.parameter if isinstance(geometry, ExpertsGeometry) else "weight"


def _rows_of(found: Mapping[str, Tensor], target: str, form: Form) -> Tensor:
    if target in found:
        return found[target]
    whole = found[form.path]
    return whole if form.outputs is None else whole[form.outputs.to(whole.device)]


def _check_mode(path: str, who: str) -> None:
    if not torch.is_grad_enabled():
        raise UnsupportedError(
            f"{who}: {path!r} runs without gradients (reentrant checkpointing, or inference mode), "
            "so that it has none to start from. Turn that off."
        )


def _check_loss(loss: object, who: str) -> None:
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        raise PlanError(
            f"{who}: the loss is {type(loss).__name__} of several numbers; expected one. Let "
            "loss=... add them up."
        )
