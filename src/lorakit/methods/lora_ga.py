"""LoRA-GA: the factors start along the gradient, so that a first step is that of full fine-tuning.

With G = U S V^T the gradient of the loss for W, A starts at c V^T[1..r] and B at c U[r+1..2r]; c is
out^(1/4) / gamma^(1/2) (Wang et al. 2024, algorithm 1). The product is taken off again: W itself
stays, and the update is the difference to the start.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from lorakit.core.errors import PlanError
from lorakit.methods.gradients import Loss, own_loss, weight_gradients
from lorakit.methods.start import (
    Factors,
    Places,
    check_finite,
    check_number,
    require_products,
)


@dataclass(frozen=True, eq=False)
class LoRAGA:
    """Start along the gradient of the loss over `batches` of the training data.

    A batch is what the model is called with. `loss` makes the loss of the model's output; without
    it the output has to have one (transformers: labels in the batch). `gamma` is the paper's; a
    lower one starts with larger factors. The gradients of all adapted weights are held at once.
    """

    batches: Iterable[Any]
    loss: Loss = own_loss
    gamma: float = 16.0

    name: ClassVar[str] = "lora-ga"

    def __post_init__(self) -> None:
        check_number(self.gamma, "gamma", least=1e-6)

    def start(self, root: nn.Module, places: Places) -> dict[str, Factors]:
        """Anchored A (rank, in) and B (out, rank) with orthogonal rows and columns."""
        require_products(self.name, places)
        for target, place in places.items():
            if 2 * place.rank > min(place.form.size):
                raise PlanError(
                    f"init='lora-ga' takes 2 x {place.rank} directions of the gradient for "
                    f"{target!r}, which has {min(place.form.size)}. Lower the rank there."
                )
        forms = {target: place.form for target, place in places.items()}
        who = f"init={self.name!r}"
        gradients = weight_gradients(root, forms, self.batches, self.loss, who=who)
        found = {}
        for target, (_, rank, _) in places.items():
            G = gradients[target]
            check_finite(self.name, target, "the gradients at", G)
            U, S, Vh = torch.linalg.svd(G, full_matrices=False)
            if S[0] == 0:
                raise PlanError(
                    f"init='lora-ga': the gradient at {target!r} is zero. Look at the batches and "
                    "their labels, or leave the layer out of the plan."
                )
            size = len(G) ** 0.25 / self.gamma**0.5
            A, B = size * Vh[:rank], size * U[:, rank : 2 * rank]
            found[target] = Factors(A, B, (A.clone(), B.clone()))
        return found
