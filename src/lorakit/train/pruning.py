"""AdaLoRA in a `Trainer`: its penalty and its pruning."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import TrainerCallback

from lorakit.methods.adalora import singular
from lorakit.train.adalora import method_of


class Pruning(TrainerCallback):
    """Adds the penalty's gradient before each of the optimiser's steps, and prunes after it.

    The gradient is added behind the clipping: that, and the loss in the record, are of the task
    alone, however many batches are added up to a step.
    """

    def __init__(self, model: nn.Module, adapter: str):
        self.model, self.adapter = model, adapter
        self.method = method_of(model, adapter)

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Add the gradient of the penalty."""
        updates = singular(self.model, self.adapter).values()
        own = [factor for update in updates for factor in (update.A, update.B)]
        penalty = self.method.penalty(self.model, self.adapter)
        for factor, more in zip(own, torch.autograd.grad(penalty, own)):
            factor.grad = more if factor.grad is None else factor.grad.add_(more)

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Judge the ranks, and prune where it is due."""
        self.method.step(self.model, self.adapter, state.global_step + 1, state.max_steps)
