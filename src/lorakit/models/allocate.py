"""`allocate`: ranks under a budget of parameters, where they are worth most. Changes nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from lorakit.core.activate import use
from lorakit.core.errors import PlanError, did_you_mean
from lorakit.core.plan import Plan, check_rank, split_target
from lorakit.core.registry import root_of
from lorakit.core.site import module_at, own_parameters
from lorakit.layers.form import Form
from lorakit.layers.norm import is_norm
from lorakit.methods import scores
from lorakit.methods.gradients import Loss, own_loss
from lorakit.methods.knapsack import fill
from lorakit.models.plan import Targets, plan

WAYS = ("gradient", "activation", "weight", "uniform")
_FROM_DATA = ("gradient", "activation")


class Allocation(Plan):
    """A plan made for a budget; a target of rank 0 is left out.

    `gains` are what each further rank of a target is worth, falling, in the unit of `by`; `costs`
    are the parameters of one rank. `parameters` are those of all ranks, of the `budget`; `reached`
    is the least share that these ranks gain of what the best choice could.
    """

    def __init__(
        self, ranks: Mapping[str, int], *, by: str, budget: int, parameters: int,
        gains: Mapping[str, list[float]], costs: Mapping[str, int], reached: float = 1.0,
    ):  # fmt: skip
        super().__init__(ranks)
        self.by = by
        self.budget = budget
        self.parameters = parameters
        self.gains = dict(gains)
        self.costs = dict(costs)
        self.reached = reached

    @property
    def scores(self) -> dict[str, float]:
        """What the first rank of each target gains for each of its parameters."""
        return {t: own[0] / self.costs[t] for t, own in self.gains.items() if own}

    def summary(self) -> str:
        """The plan in one line."""
        used = sorted(rank for rank in self.values() if rank)
        span = f"rank {used[0]}" if used[0] == used[-1] else f"ranks {used[0]} to {used[-1]}"
        line = (
            f"{self.parameters:,} of {self.budget:,} parameters by {self.by}: {len(used)} of "
            f"{len(self)} targets, {span}"
        )
        near = math.floor(self.reached * 1000) / 10
        return line if self.by == "uniform" else f"{line}, {near:g} % of the best choice or more"

    def __str__(self) -> str:
        return f"{self.summary()}\n{super().__str__()}"

    def as_dict(self) -> dict[str, Any]:
        """The allocation as JSON; `Allocation.from_dict` brings it back."""
        return {
            "by": self.by, "budget": self.budget, "parameters": self.parameters,
            "reached": self.reached, "ranks": dict(self), "gains": self.gains, "costs": self.costs,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Allocation:
        """What `as_dict` made; a missing key raises KeyError."""
        names = ("by", "budget", "parameters", "gains", "costs", "reached")
        return cls(value["ranks"], **{name: value[name] for name in names})


def allocate(
    model: nn.Module, targets: Targets = "all-linear", *, params: int, by: str = "gradient",
    batches: Iterable[Any] | None = None, loss: Loss | None = None, min_rank: int = 0,
    max_rank: int | None = None,
) -> Allocation:  # fmt: skip
    """Deal out ranks over the layers that `targets` means, in at most `params` parameters.

    `by` is what a rank is worth: "gradient", how much of a step along the loss's gradient for
    the weight it can take; "activation", the share of the inputs' variance (Paischer et al. 2024);
    "weight", the share of the weight's own squares; or "uniform", one rank for all. The first two
    look at `batches` of what the model is called with, with its adapters off; "gradient" needs a
    loss in its answer, or `loss`, a function of it. Each rank costs what it has to train there;
    norms, trained as they are, come first, and no layer gets less than `min_rank` or more than
    `max_rank` or its matrix has. Equal calls give equal plans. Raises `PlanError`.
    """
    _check(params, by, batches, min_rank, max_rank)
    root = root_of(model)
    norms, forms = _sorted(root, targets)
    costs = {target: math.prod(form.lead) * sum(form.size) for target, form in forms.items()}
    left = params - sum(norms.values())
    limit = params if max_rank is None else max_rank
    least = {target: min(min_rank, *form.size) for target, form in forms.items()}
    most = {t: max(least[t], min(left // costs[t], limit, *f.size)) for t, f in forms.items()}
    _check_budget(params, sum(norms.values()), costs, least, uniform=by == "uniform")
    if by == "uniform":
        rank = left // max(sum(costs.values()), 1)
        gains, reached = {}, 1.0
        ranks = {target: min(rank, most[target]) for target in forms}
    else:
        gains = _gains(root, forms, by, batches, loss or own_loss, most)
        chosen = fill(gains, costs, left, least=least)
        ranks, reached = chosen.ranks, chosen.gain / chosen.bound if chosen.bound else 1.0
        if forms and not any(ranks.values()):
            raise PlanError(
                f"by={by!r}: no rank of any target is worth anything, so there is nothing to deal "
                "out by. Look at the batches and their labels, or choose by='uniform'."
            )
    ranks |= dict.fromkeys(norms, 1)
    every = {**norms, **costs}
    return Allocation(
        {target: ranks[target] for target in plan(root, targets, 1)}, by=by, budget=params,
        parameters=sum(every[target] * rank for target, rank in ranks.items()), gains=gains,
        costs=every, reached=reached,
    )  # fmt: skip


def _sorted(root: nn.Module, targets: Targets) -> tuple[dict[str, int], dict[str, Form]]:
    """The parameters of the norms that are meant, and the forms of all other targets."""
    norms: dict[str, int] = {}
    forms: dict[str, Form] = {}
    for target in plan(root, targets, 1):
        layer = module_at(root, split_target(target)[0])
        if is_norm(layer):
            norms[target] = sum(value.numel() for value in own_parameters(layer).values())
        else:
            forms[target] = Form.of(root, target)
    return norms, forms


def _gains(
    root: nn.Module, forms: Mapping[str, Form], by: str, batches: Iterable[Any] | None, loss: Loss,
    most: Mapping[str, int],
) -> dict[str, list[float]]:  # fmt: skip
    bare = next((t for t, f in forms.items() if f.device.type == "meta"), None)
    if bare is not None:
        raise PlanError(
            f"by={by!r} looks at weights, and {bare!r} has none yet (it is on the meta device). "
            "Load the base first, or choose by='uniform'."
        )
    with use(root):
        if by == "weight":
            found = scores.by_weight(forms)
        elif by == "activation":
            found = scores.by_activation(root, forms, batches or (), most)
        else:
            found = scores.by_gradient(root, forms, batches or (), loss)
    return {target: own[: most[target]].tolist() for target, own in found.items()}


def _check(
    params: object, by: str, batches: object, min_rank: object, max_rank: int | None
) -> None:
    if by not in WAYS:
        raise PlanError(
            f"by is {by!r}; expected one of {', '.join(WAYS)}.{did_you_mean(str(by), WAYS)}"
        )
    if by in _FROM_DATA and batches is None:
        raise PlanError(
            f"by={by!r} looks at data: pass batches=..., an iterable of what the model is called "
            "with, or choose by='weight' or by='uniform'."
        )
    check_rank(min_rank, "min_rank")
    for name, value in (("params", params), ("max_rank", 1 if max_rank is None else max_rank)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise PlanError(f"{name} is {value!r}; expected a whole number of at least 1.")
    if max_rank is not None and min_rank > max_rank:  # type: ignore[operator]
        raise PlanError(f"min_rank is {min_rank} and max_rank {max_rank}; expected them in order.")


def _check_budget(
    params: int, norms: int, costs: Mapping[str, int], least: Mapping[str, int], *, uniform: bool
) -> None:
    """Raise `PlanError` where not even the smallest choice fits; say what that would be."""
    forced = sum(costs[target] * rank for target, rank in least.items())
    one = (sum(costs.values()) if uniform else min(costs.values())) if costs else 0
    needed = norms + max(forced, one)
    if params < needed:
        smallest = "one rank everywhere" if uniform else "one rank of the cheapest target"
        what = "min_rank everywhere" if forced > one else smallest
        raise PlanError(
            f"params is {params:,}; the least is {needed:,}, for {what}"
            f"{' and the norms' if norms else ''}. Allow that many, or name fewer targets."
        )
