"""The ways to train one base that are compared: the frozen floor, ours, the peers', all of it."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from lorakit.core.registry import root_of
from lorakit.methods.inject import inject
from lorakit.methods.lora import LoRA
from lorakit.models.headless import Headless, is_large, plain_head
from lorakit.models.plan import plan

ALL = "all-linear"


@dataclass(frozen=True)
class Choice:
    """What is adapted, and how: the same for every way."""

    targets: tuple[str, ...] = (ALL,)
    rank: int = 8
    dropout: float = 0.0


def floor(model: Any, choice: Choice) -> tuple[Any, list[Any]]:
    """Nothing is trained: forward, and backward as far as the input, which all others do too."""
    del choice
    return model.requires_grad_(False), []


def ours(model: Any, choice: Choice) -> tuple[Any, list[Any]]:
    """The adapter of this library."""
    method = LoRA(alpha=2.0 * choice.rank, dropout=choice.dropout)
    inject(model, plan(model, targets=list(choice.targets), rank=choice.rank), method=method)
    return model, _trained(model)


def full(model: Any, choice: Choice) -> tuple[Any, list[Any]]:
    """Everything is trained."""
    del choice
    return model, _trained(model)


def peft(model: Any, choice: Choice) -> tuple[Any, list[Any]]:
    """PEFT's adapter as it comes: its weights in float32."""
    return _peft(model, choice, cast=True)


def peft_narrow(model: Any, choice: Choice) -> tuple[Any, list[Any]]:
    """PEFT's adapter with its weights in the base's dtype."""
    return _peft(model, choice, cast=False)


def loralib(model: Any, choice: Choice) -> tuple[Any, list[Any]]:
    """The layers of loralib in the place of the model's; its A and B have the base's dtype."""
    import loralib as peer

    for path in plan(model, targets=list(choice.targets), rank=choice.rank):
        parent, _, leaf = path.rpartition(".")
        layer = model.get_submodule(path)
        other = peer.Linear(
            layer.in_features, layer.out_features, r=choice.rank, lora_alpha=2 * choice.rank,
            lora_dropout=choice.dropout, bias=layer.bias is not None,
        ).to(layer.weight)  # fmt: skip
        other.load_state_dict(layer.state_dict(), strict=False)
        setattr(model.get_submodule(parent), leaf, other)
    peer.mark_only_lora_as_trainable(model)
    return model, _trained(model)


WAYS: dict[str, Callable[[Any, Choice], tuple[Any, list[Any]]]] = {
    "floor": floor, "floor again": floor, "lorakit": ours, "PEFT": peft,
    "PEFT, base's dtype": peft_narrow, "loralib": loralib, "full": full,
}  # fmt: skip


def available(names: list[str]) -> list[str]:
    """The ways that can be run here: a peer's only where it is installed."""
    missing = [peer for peer in ("peft", "loralib") if importlib.util.find_spec(peer) is None]
    return [name for name in names if not name.lower().startswith(tuple(missing))]


def make_step(
    way: str, base: Any, choice: Choice, given: dict[str, torch.Tensor], *,
    prepare: Callable[[Any], Callable[..., Any]] | None = None,
) -> Any:  # fmt: skip
    """A function that does one step of training on a copy of the base.

    `prepare` makes of the model what is called in its place.
    """
    torch.manual_seed(0)
    model, trained = WAYS[way](copy.deepcopy(base), choice)
    fused = bool(trained) and trained[0].device.type in ("cpu", "cuda")
    optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=fused) if trained else None
    inner: Any = root_of(model)
    table = inner.get_input_embeddings()
    head = plain_head(inner) if way == "lorakit" else None
    ask = model if prepare is None else prepare(model)
    if head is not None and is_large(head, given["labels"]):  # as the trainer does it
        ask = Headless(ask, head)

    def step() -> None:
        # The input wants a gradient in every way, as it would from layers below.
        start = table(given["input_ids"]).detach().requires_grad_(True)
        ask(inputs_embeds=start, labels=given["labels"])["loss"].backward()
        if optimizer is not None:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    step.model = model  # type: ignore[attr-defined]
    return step


def _peft(model: Any, choice: Choice, *, cast: bool) -> tuple[Any, list[Any]]:
    from peft import LoraConfig, get_peft_model

    paths = list(plan(model, targets=list(choice.targets), rank=choice.rank))
    config = LoraConfig(
        r=choice.rank, lora_alpha=2 * choice.rank, lora_dropout=choice.dropout,
        target_modules=paths,
    )  # fmt: skip
    adapted = get_peft_model(model, config, autocast_adapter_dtype=cast)
    return adapted, _trained(adapted)


def _trained(model: Any) -> list[Any]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]
