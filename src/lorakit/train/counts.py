"""Whether a model divides its loss by the count of labels that it is told."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch


def divides(ask: Callable[..., Any], model: Any, inputs: dict[str, Any], count: Any) -> bool:
    """Whether twice the count halves the loss that `ask` makes of a batch, as Trainer's does."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng():
            one = float(ask(model, dict(inputs), num_items_in_batch=count))
            two = float(ask(model, dict(inputs), num_items_in_batch=2 * count))
    finally:
        model.train(training)
    return math.isclose(one, 2 * two, rel_tol=1e-2)
