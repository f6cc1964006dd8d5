"""Injection: a plan and a method become an adapter on a model."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from lorakit.core.errors import PlanError
from lorakit.core.inject import InjectReport, attach, check_addition
from lorakit.core.registry import STRUCTURE, root_of
from lorakit.layers.quantised import settled
from lorakit.methods.lora import LoRA
from lorakit.methods.method import Method


def inject(
    model: nn.Module,
    plan: Mapping[str, int],
    *,
    name: str = "default",
    method: Method | None = None,
) -> InjectReport:
    """Put a fresh adapter on the model, which stays the same object and class, its base frozen.

    A fresh adapter changes nothing until it is trained. The first adapter of a model is active at
    once; later ones wait for `activate` or `use`. Raises before anything is changed.
    """
    if not isinstance(plan, Mapping):
        raise PlanError(
            f"The plan is a {type(plan).__name__}; expected a mapping of module path to rank. "
            "Make one with lk.plan(model, targets=..., rank=...)."
        )
    chosen = LoRA() if method is None else method
    if not isinstance(chosen, Method):
        raise PlanError(f"method is {chosen!r}; expected options such as lk.LoRA(alpha=16).")
    with STRUCTURE:
        check_addition(model, name)
        updates = chosen.updates(root_of(model), plan)
        with settled(root_of(model), training=True):
            return attach(model, name, updates, method=chosen.kept())
