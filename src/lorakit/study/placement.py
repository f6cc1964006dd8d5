"""Placement: where a fixed number of parameters is best spent (Hu et al. 2021, table 5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from lorakit.analysis.cost import cost
from lorakit.core.errors import RecipeError
from lorakit.models.plan import plan
from lorakit.study.contrast import (
    better,
    by_setting,
    compared,
    digits,
    figure,
    mean_of,
    metric,
    scored,
    seeds_of,
    weak,
)
from lorakit.study.figures import Axis, Series, dots
from lorakit.study.kinds import Record, Setting, Shown
from lorakit.study.runs import Runs, recipe_of, structure_of
from lorakit.study.table import Column, Table

# WikiSQL, accuracy in percent, at 18 M parameters: places -> rank, accuracy.
PAPER = {
    "q": (8, 70.4), "k": (8, 70.0), "v": (8, 73.0), "o": (8, 73.2), "q, k": (4, 71.4),
    "q, v": (4, 73.7), "q, k, v, o": (2, 73.7),
}  # fmt: skip


class Placement(Runs):
    """LoRA at several places, with as many parameters at each."""

    name = "placement"
    title = "Placement: where a fixed number of parameters is best spent"
    why = (
        "Which layers should get the adapter, at equal parameters: one projection at a high rank, "
        "or many at a low one, attention or feed-forward (Hu et al. 2021, table 5)?"
    )
    grows = ("targets", "seeds")

    def options(self, *, quick: bool) -> dict[str, Any]:
        """`targets` are lists of places adapted together; `rank` is that of the first of them.

        All others get as many parameters as that, in ranks as equal as they can be. At the paper's
        rank of 8 one rank of all linear layers would take more than the query has.
        """
        few = [["q"], ["q", "v"], ["mlp"]]
        more = [["q"], ["k"], ["v"], ["o"], ["q", "k"], ["q", "v"], ["q", "k", "v", "o"], ["mlp"],
                ["all-linear"]]  # fmt: skip
        return {
            "targets": few if quick else more, "rank": 16, "seeds": [0, 1] if quick else [0, 1, 2],
        }  # fmt: skip

    def settings(self, setting: Setting) -> list[dict[str, Any]]:
        """Every choice of places with the budget of the first."""
        model, every = structure_of(recipe_of(setting)), setting.option("targets")
        params = cost(model, plan(model, list(every[0]), setting.option("rank"))).parameters
        return [{"targets": list(own), "ranks": dealt(model, list(own), params)} for own in every]

    def overrides(self, settings: Mapping[str, Any], setting: Setting) -> dict[str, Any]:
        """Places, and the rank of each."""
        del setting
        return {"lora.targets": list(settings["ranks"]), "lora.rank": dict(settings["ranks"])}

    def show(self, records: Sequence[Record], setting: Setting) -> Shown:
        """A row for each choice of places, best ones bold, and tests against the best."""
        cells = {", ".join(o[0].settings["targets"]): o for o in by_setting(records).values()}
        scores = {name: scored(own) for name, own in cells.items()}
        more, unit = better(records), metric(records)
        order = sorted(scores, key=lambda name: scores[name].mean, reverse=more)
        best = cells[order[0]]
        tests = compared({name: (best, cells[name]) for name in order[1:]})
        columns = [
            Column("places"), Column("parameters", digits=0),
            Column(unit, digits=digits(records), best="high" if more else "low"),
            Column("worse than the best by", digits=digits(records)), Column("p, corrected"),
            Column("rank in the paper", quoted=True),
            Column("WikiSQL in the paper", "%", 1, quoted=True),
        ]  # fmt: skip
        gaps = {name: (own.difference, p) for name, (own, p) in tests.items()}
        rows = [
            [name, mean_of(own, "parameters"), scores[name], *gaps.get(name, (None, None)),
             *PAPER.get(name, (None, None))]
            for name, own in cells.items()
        ]  # fmt: skip
        told = seeds_of(cells)
        notes = [
            f"{told[0].upper()}{told[1:]}; differences are paired by seed, p by sign flips, "
            "corrected (Holm). The best is the best of these very runs, so that the others look "
            "further behind it than they are. Paper: GPT-3 175B, 18 M parameters (table 5).",
            *filter(None, [weak(tests)]),
        ]
        table = Table(
            "placement", f"{unit[0].upper()}{unit[1:]} at equal parameters", columns, rows, notes
        )
        finding = (
            f"Best at equal parameters: {order[0]} ({figure(scores[order[0]].mean, best)}), worst: "
            f"{order[-1]} ({figure(scores[order[-1]].mean, best)})."
        )
        ends = [Series.of("score", [scores[name] for name in cells])]
        caption = "Score by place at equal parameters, with 95 % intervals over seeds."
        picture = dots("placement", caption, list(cells), Axis(unit), ends)
        return Shown([finding] if len(cells) > 1 else [], [table], [picture])


def dealt(model: nn.Module, targets: list[str], params: int) -> dict[str, int]:
    """Ranks of at most so many parameters: as equal as can be, what is left over evenly spread.

    Raises `RecipeError` where not every layer can have one.
    """
    costs = {
        line.path: line.rows + line.columns for line in cost(model, plan(model, targets, 1)).lines
    }
    rank, left = divmod(params, sum(costs.values()))
    if rank == 0:
        raise RecipeError(
            f"{', '.join(targets)}: one rank everywhere takes {sum(costs.values()):,} parameters, "
            f"and there are {params:,}. Raise study.rank, whose parameters all places get."
        )
    found = dict.fromkeys(costs, rank)
    # Every second layer first, then those between: what is over goes to no end of the model alone.
    for path in [*list(costs)[::2], *list(costs)[1::2]]:
        if costs[path] <= left:
            found[path] += 1
            left -= costs[path]
    return found
