"""AdaLoRA: singular values that are pruned in training, so that ranks go where they matter.

W + scale * P diag(e) Q, with P and Q kept near orthonormal by a penalty and e starting at zero
(Zhang et al. 2023, section 3.1). Each singular value is judged with its two vectors by how much the
loss feels them, and a falling budget keeps the best of the whole model (sections 3.2 and 3.3).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lorakit.core.errors import PlanError, TrainingError, UnsupportedError
from lorakit.core.inject import find_layers
from lorakit.core.plan import check_rank, split_target
from lorakit.core.registry import require_registry, root_of
from lorakit.core.site import site_of
from lorakit.core.state import trained_parameters
from lorakit.core.update import LowRank, Update
from lorakit.layers.form import Form
from lorakit.layers.norm import is_norm
from lorakit.methods.lora import DEFAULT, LoRA
from lorakit.methods.start import Factors, Places, check_number

_TRAINED = ("A", "B", "e")


@dataclass(frozen=True)
class AdaLoRA(LoRA):
    """The options of AdaLoRA: those of LoRA but rslora and init, and the course of its budget.

    A plan gives the ranks to end with, on average; training starts with `grow` times as many. The
    budget stands still for the share `tinit` of the steps, falls as a cube, and is what it will be
    for the last share `tfinal`; between, ranks are judged anew every `delta_t` steps. `beta1` and
    `beta2` smooth what they are judged by, `gamma` is the weight of the penalty. `AdapterTrainer`
    does all of it; in a loop of one's own add `penalty` to the loss, and call `step` between the
    optimiser's step and `zero_grad`.
    """

    grow: float = 1.5
    tinit: float = 0.1
    tfinal: float = 0.4
    delta_t: int = 10
    beta1: float = 0.85
    beta2: float = 0.85
    gamma: float = 0.1

    name: ClassVar[str] = "adalora"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rslora or self.init != DEFAULT:
            raise PlanError("AdaLoRA has one scale and one way to start: leave rslora and init.")
        check_number(self.grow, "grow", least=1)
        for name in ("tinit", "tfinal", "beta1", "beta2", "gamma"):
            check_number(getattr(self, name), name, least=0)
        if self.tinit + self.tfinal > 1:
            raise PlanError(
                f"tinit and tfinal are {self.tinit:g} and {self.tfinal:g} of the steps; expected "
                "two shares of no more than 1 together."
            )
        if max(self.beta1, self.beta2) >= 1:
            raise PlanError(
                f"beta1 and beta2 are {self.beta1:g}, {self.beta2:g}; expected below 1."
            )
        if check_rank(self.delta_t, "delta_t") == 0:
            raise PlanError("delta_t is 0; expected a number of steps of at least 1.")

    def updates(self, root: nn.Module, plan: Mapping[str, int]) -> dict[str, dict[str, Update]]:
        """Fresh updates of the larger ranks to start with; nothing is put on the model."""
        asked = {target: check_rank(rank, repr(target)) for target, rank in plan.items()}
        layers = find_layers(root, dict.fromkeys(split_target(target)[0] for target in asked))
        first = {
            target: rank and self._first(root, target, rank)
            for target, rank in asked.items()
            if not is_norm(layers[split_target(target)[0]])
        }
        found = super().updates(root, {**asked, **first})
        for path, kinds in found.items():
            for update in kinds.values():
                if isinstance(update, Singular):
                    update.goal = asked[update.target(path)]
        return found

    def _first(self, root: nn.Module, target: str, rank: int) -> int:
        """The rank that a target starts with: no more than P and Q can be orthonormal for."""
        most = min(Form.of(root, target).size)
        if rank > most:
            raise PlanError(
                f"AdaLoRA: rank {rank} for {target!r}, whose matrix has at most {most}. Lower the "
                "rank there."
            )
        return min(most, math.ceil(self.grow * rank))

    def _start(self, root: nn.Module, places: Places) -> dict[str, Factors]:
        """Q and P as orthonormal ones drawn at random: there the penalty is zero."""
        del root
        fused = next((target for target, place in places.items() if place.form.lead), None)
        if fused is not None:
            raise UnsupportedError(
                f"{fused!r} are fused experts, which get one rank together, and AdaLoRA prunes "
                "each. Leave them out of the plan, or use LoRA."
            )
        return {
            target: Factors(_orthonormal(form, 0, rank).T, _orthonormal(form, 1, rank))
            for target, (form, rank, _) in places.items()
        }

    def _low_rank(self, form: Form, factors: Factors, alpha: float) -> LowRank:
        return Singular(form.geometry, factors.A, factors.B, **self._given(form, factors, alpha))

    def penalty(self, model: nn.Module, name: str) -> Tensor:
        """Gamma times the sum of |P^T P - I|^2 + |Q Q^T - I|^2 over an adapter's updates."""
        own = singular(model, name).values()
        return self.gamma * sum((update.skewness() for update in own), torch.zeros(()))

    def budget(self, step: int, steps: int, start: int, goal: int) -> tuple[int, bool]:
        """Ranks to keep after a step of `steps`, from `start` to `goal`; whether to choose now."""
        first, last = round(self.tinit * steps), self._last(steps)
        if step > last:
            return goal, True
        if step <= first:
            return start, False
        left = 1 - (step - first) / (last - first)
        return int((start - goal) * left**3 + goal), step % self.delta_t == 0

    def step(self, model: nn.Module, name: str, step: int, steps: int) -> int | None:
        """Note how the loss feels an adapter's values after a step, and prune where it is due.

        Steps count from 1; gradients must still be there. In the last share of them the choice
        stands. Returns how many ranks were kept, or None where none were to be chosen.
        """
        updates = list(singular(model, name).values())
        if not updates:  # a plan of norms alone
            return None
        if step <= self._last(steps):
            for update in updates:
                update.observe(self.beta1, self.beta2)
        start, goal = sum(len(u.A) for u in updates), sum(u.goal for u in updates)
        kept, due = self.budget(step, steps, start, goal)
        if not due:
            return None
        scores = torch.cat([update.scores().to(updates[0].e.device) for update in updates])
        best = torch.sort(scores, descending=True, stable=True).indices[:kept]
        chosen = torch.zeros_like(scores, dtype=torch.bool).index_fill_(0, best, True)
        for update, own in zip(updates, chosen.split([len(u.A) for u in updates])):
            update.prune(own.to(update.e.device))
        return kept

    def is_settled(self, step: int, steps: int) -> bool:
        """Whether the ranks after a step are those of the end."""
        return step > self._last(steps)

    def _last(self, steps: int) -> int:
        """The last step whose gradients count: the choice after it stands."""
        return min(steps - round(self.tfinal * steps), steps - 1)


class Singular(LowRank):
    """P diag(e) Q: A is Q (rank, in), B is P (out, rank), and `e` (rank,) the singular values.

    What they are judged by stands beside them in buffers: for each number a mean of |w dL/dw| and
    one of how much that varies. `goal` is the rank that the plan gave, and `kept` (rank,) tells
    which ones were kept at the last choice.
    """

    kept: Tensor

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.e = nn.Parameter(torch.zeros_like(self.A[:, 0]))
        self.goal = len(self.A)
        for name in _TRAINED:
            for kind in ("sensitivity", "uncertainty"):
                zeros = torch.zeros_like(getattr(self, name), requires_grad=False)
                self.register_buffer(f"{kind}_{name}", zeros, persistent=False)
        kept = torch.ones(len(self.A), dtype=torch.bool, device=self.A.device)
        self.register_buffer("kept", kept, persistent=False)

    def factors(self) -> tuple[Tensor, Tensor]:
        """diag(e) Q and P."""
        wide = torch.promote_types(self.e.dtype, torch.float32)  # rounded once, where it is used
        return self.e.to(wide)[:, None] * self.A.to(wide), self.B

    def plain(self) -> tuple[Tensor, Tensor, float]:
        """A plain LoRA of the ranks that are left, and the alpha that leaves the scale as it is."""
        A, B = (factor.detach() for factor in self.factors())
        left = self.kept | (self.e.detach() != 0)
        if left.all():
            return A, B, self.alpha
        return A[left], B[:, left], self.scale * int(left.sum())

    def skewness(self) -> Tensor:
        """|P^T P - I|^2 + |Q Q^T - I|^2 (Frobenius), with a gradient."""
        eye = torch.eye(len(self.A), dtype=self.A.dtype, device=self.A.device)
        Q, P = self.A @ self.A.T - eye, self.B.T @ self.B - eye
        return P.square().sum() + Q.square().sum()

    @torch.no_grad()
    def observe(self, beta1: float, beta2: float) -> None:
        """Take in how much the loss feels each number, |w dL/dw|, and how much that varies."""
        for name in _TRAINED:
            value = getattr(self, name)
            if value.grad is None:
                raise TrainingError(
                    "AdaLoRA judges ranks by gradients, and there are none. Call `step` after the "
                    "optimiser's step and before `zero_grad`."
                )
            now = (value * value.grad).abs()
            mean, spread = (
                getattr(self, f"sensitivity_{name}"),
                getattr(self, f"uncertainty_{name}"),
            )
            mean.mul_(beta1).add_(now, alpha=1 - beta1)
            spread.mul_(beta2).add_((now - mean).abs(), alpha=1 - beta2)

    def scores(self) -> Tensor:
        """What each rank counts (rank,): of its singular value, and of its vectors on average."""
        A, B, e = (
            getattr(self, f"sensitivity_{name}") * getattr(self, f"uncertainty_{name}")
            for name in _TRAINED
        )
        return e + A.mean(1) + B.mean(0)

    @torch.no_grad()
    def prune(self, kept: Tensor) -> None:
        """Set the singular values to zero that are not among the `kept` (rank,)."""
        self.kept.copy_(kept)
        self.e.mul_(self.kept)


def singular(model: nn.Module, name: str) -> dict[str, Singular]:
    """The updates of an AdaLoRA adapter by target, in the model's order."""
    entry, root = require_registry(model).entry(name), root_of(model)
    found = {}
    for path in entry.paths:
        site = site_of(root.get_submodule(path))
        assert site is not None
        for update in site.updates(entry.id).values():
            if isinstance(update, Singular):
                found[update.target(path)] = update
    return found


def progress(model: nn.Module, name: str) -> dict[str, Tensor]:
    """What training goes on from: all that is trained, and what ranks are judged by; not copied."""
    found: dict[str, Tensor] = dict(trained_parameters(model, name))
    for target, update in singular(model, name).items():
        found |= {f"{target} {key}": value for key, value in update.named_buffers()}
    return found


def _orthonormal(form: Form, side: int, rank: int) -> Tensor:
    """Orthonormal columns (size, rank), as those of a Gaussian matrix lie."""
    return torch.linalg.qr(torch.randn(form.size[side], rank, device=form.device)).Q
