"""LoRA+: a higher learning rate for B than for A (Hayou et al. 2024, equation 5).

At a common rate one of the two learns less than it could once layers are wide; a ratio of about 16
is the paper's advice. It is the factor that starts at zero which gets the higher rate, so for an
embedding, which starts with A at zero, that is A.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from lorakit.core.errors import PlanError
from lorakit.core.registry import root_of
from lorakit.core.update import LowRank


def parameter_groups(
    model: nn.Module, lr: float, ratio: float = 16.0, **options: Any
) -> list[dict[str, Any]]:
    """Groups for a torch optimiser: what is trained, the zero-started factors at ratio * lr.

    `options` go into both groups. Raises `PlanError` for a ratio that is not above zero.
    """
    if not ratio > 0:
        raise PlanError(f"The ratio of learning rates is {ratio!r}; expected a number above 0.")
    fast = {id(p) for p in zero_started(model)}
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if id(p) not in fast], "lr": lr, **options},
        {"params": [p for p in trained if id(p) in fast], "lr": lr * ratio, **options},
    ]
    return [group for group in groups if group["params"]]


def zero_started(model: nn.Module) -> list[nn.Parameter]:
    """Of every low-rank update on the model the factor that starts at zero."""
    updates = [m for m in root_of(model).modules() if isinstance(m, LowRank)]
    return [getattr(update, update.geometry.zero) for update in updates]
