"""What is known about settings, applied to a plan: each with its figures, reason and source."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from lorakit.analysis.cost import cost
from lorakit.models.plan import plan
from lorakit.models.roles import linear_paths

REGRET = 'Schulman et al. 2025, "LoRA Without Regret"'
SHORT = 100  # steps below which a run wants a higher rate


@dataclass(frozen=True)
class Advice:
    """A setting of the recipe, what is advised for it, why, and who says so."""

    setting: str
    advice: str
    reason: str
    source: str

    def __str__(self) -> str:
        return f"{self.setting:<9} {self.advice}; {self.reason}"


def advise(
    model: nn.Module, chosen: Mapping[str, int], *, parameters: int, tokens: int | None,
    steps: int | None, rows: int,
) -> list[Advice]:  # fmt: skip
    """Advice for low ranks, by a plan with so many parameters, those of a new head left out.

    `tokens` are those with a label in the training rows, `steps` those of the run, None where they
    are not known; `rows` of a batch with all that is added up.
    """
    return [
        _rank(model, chosen, parameters, tokens),
        _rate(steps),
        _targets(model, chosen, parameters),
        Advice(
            "batch", f"keep it as small as the machine allows (now {rows})",
            "at large batches LoRA falls behind full fine-tuning, and a higher rank does not help",
            REGRET,
        ),
    ]  # fmt: skip


def _rank(
    model: nn.Module, chosen: Mapping[str, int], parameters: int, tokens: int | None
) -> Advice:
    ranks = sorted(set(chosen.values()))
    now = f"{ranks[0]}" if len(ranks) == 1 else f"{ranks[0]} to {ranks[-1]}"
    if tokens is None:
        said = f"{now} has room for about {parameters:,} completion tokens"
    elif parameters >= tokens:
        said = f"{now} is enough: {parameters:,} parameters for {tokens:,} completion tokens"
    else:
        fewer = f"{parameters:,} parameters at {now} are fewer than the {tokens:,} tokens to learn"
        wanted = math.ceil(ranks[-1] * tokens / parameters)
        widest = max(min(line.rows, line.columns) for line in cost(model, chosen).lines)
        said = (
            f"raise it to about {wanted}: {fewer}" if wanted <= widest
            else f"adapt more layers, or train all of the model: {fewer}, and no rank would do"
        )  # fmt: skip
    rule = "an adapter learns as fast as the whole model until the data hold more than it can"
    return Advice("rank", said, rule, REGRET)


def _rate(steps: int | None) -> Advice:
    short = steps is not None and steps < SHORT
    times = f"15 times, as {steps} steps are few," if short else "10 times"
    return Advice(
        "lr", f"{times} that of full fine-tuning",
        "so it was best in every run there, nearly whatever the rank at scale alpha / r", REGRET,
    )  # fmt: skip


def _targets(model: nn.Module, chosen: Mapping[str, int], parameters: int) -> Advice:
    missing = set(linear_paths(model)) - set(chosen)
    reason = "all matrices, the feed-forward ones above all, beat attention alone at equal size"
    if not missing:
        return Advice("targets", "all linear layers are in the plan", reason, REGRET)
    each = cost(model, plan(model, "all-linear", 1)).parameters
    rank = parameters // each
    same = f" at rank {rank}, which is the same size" if rank else ""
    return Advice("targets", f"all-linear{same}", reason, REGRET)
