"""LoRA-GA: the factors start along the gradient, so that a first step is that of full fine-tuning.

With G = U S V^T the gradient of the loss for W, A starts at c V^T[1..r] and B at c U[r+1..2r]; c is
out^(1/4) / gamma^(1/2) (Wang et al. 2024, algorithm 1). The product is taken off again: W itself
stays, and the update is the difference to the start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lorakit.core.errors import PlanError, UnsupportedError
from lorakit.methods.start import (
    Factors,
    Places,
    answering,
    check_finite,
    check_number,
    layers_of,
    require_products,
    run_batch,
    watched,
)


def _own_loss(output: Any) -> Tensor:
    loss = getattr(output, "loss", None)
    if not isinstance(loss, Tensor):
        raise UnsupportedError(
            "init='lora-ga' needs a loss, and the model's answer has none. Put labels into the "
            "batches, or pass loss=..., a function of the model's output."
        )
    return loss


@dataclass(frozen=True, eq=False)
class LoRAGA:
    """Start along the gradient of the loss over `batches` of the training data.

    A batch is what the model is called with. `loss` makes the loss of the model's output; without
    it the output has to have one (transformers: labels in the batch). `gamma` is the paper's; a
    lower one starts with larger factors. The gradients of all adapted weights are held at once.
    """

    batches: Iterable[Any]
    loss: Callable[[Any], Tensor] = _own_loss
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
        gradients = self._gradients(root, places)
        found = {}
        for target, (form, rank, _) in places.items():
            G = gradients[form.path]
            G = G if form.outputs is None else G[form.outputs.to(G.device)]
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

    def _gradients(self, root: nn.Module, places: Places) -> dict[str, Tensor]:
        """dL/dW (out, in) of every layer, added up over the batches, in float32."""
        layers = layers_of(places)
        found: dict[str, Tensor] = {}
        zeros: list[Tensor] = []

        def look(path: str, x: Tensor, y: Tensor) -> Tensor:
            x = x.detach()
            if not torch.is_grad_enabled():
                raise UnsupportedError(
                    f"init='lora-ga': {path!r} runs without gradients (reentrant checkpointing, or "
                    "inference mode), so that it has none to start from. Turn that off."
                )

            def add(gradient: Tensor) -> None:
                own = gradient.reshape(-1, gradient.shape[-1]).float()
                more = own.T @ x.reshape(-1, x.shape[-1]).float()
                found[path] = found[path] + more if path in found else more

            # Frozen layers below make no graph of their own: a zero that wants a gradient does.
            zeros.append(torch.zeros((), dtype=y.dtype, device=y.device, requires_grad=True))
            y = y + zeros[-1]
            y.register_hook(add)
            return y

        with answering(root), torch.enable_grad(), watched(layers, look):
            for batch in self.batches:
                zeros.clear()
                loss = self.loss(run_batch(root, batch))
                # To the zeros alone: gradients of anything else that is trained stay as they are.
                if not isinstance(loss, Tensor) or loss.numel() != 1:
                    raise PlanError(
                        f"init='lora-ga': the loss is {type(loss).__name__} of several numbers; "
                        "expected one. Let loss=... add them up."
                    )
                if zeros and loss.requires_grad:
                    torch.autograd.grad(loss, zeros, allow_unused=True)
        missing = next((path for path in layers if path not in found), None)
        if missing is not None:
            raise PlanError(
                f"init='lora-ga': no gradient reached {missing!r}; it was given no batch, or the "
                "loss does not depend on it. Pass batches, or leave it out of the plan."
            )
        return found
