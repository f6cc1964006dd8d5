"""Placement: where a fixed number of parameters is best spent (Hu et al. 2021, table 5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from lorakit.analysis.cost import cost
from lorakit.core.errors import RecipeError
from lorakit.models.plan import plan
from lorakit.study.figures import Axis, Series, bars
from lorakit.study.kinds import Record, Setting, Shown
from lorakit.study.runs import Runs, better, by_setting, mean_of, metric, scored, structure_of
from lorakit.study.statistics import holm, paired
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

        All others get as many parameters as that, in ranks as equal as they can be.
        """
        few = [["q"], ["q", "v"], ["mlp"]]
        more = [["q"], ["k"], ["v"], ["o"], ["q", "k"], ["q", "v"], ["q", "k", "v", "o"], ["mlp"],
                ["all-linear"]]  # fmt: skip
        return {
            "targets": few if quick else more, "rank": 8, "seeds": [0, 1] if quick else [0, 1, 2],
        }  # fmt: skip

    def settings(self, setting: Setting) -> list[dict[str, Any]]:
        """Every choice of places with the budget of the first."""
        model, every = structure_of(setting), setting.option("targets")
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
        tests = _against(cells, order)
        columns = [
            Column("places"), Column("parameters", digits=0),
            Column(unit, best="high" if more else "low"),
            Column("below the best"), Column("p, corrected", digits=3),
            Column("rank in the paper", quoted=True), Column("WikiSQL", "%", 1, quoted=True),
        ]  # fmt: skip
        rows = [
            [name, mean_of(own, "parameters"), scores[name], *tests[name],
             *PAPER.get(name, (None, None))]
            for name, own in cells.items()
        ]  # fmt: skip
        notes = [
            f"Means over {len(next(iter(cells.values())))} seeds with 95 % intervals (Student's "
            "t); p by sign flips over seeds, corrected (Holm). Paper: GPT-3 175B, 18 M parameters "
            "(table 5).",
        ]
        table = Table("placement", f"{unit} at equal parameters, by place", columns, rows, notes)
        finding = (
            f"Best at equal parameters: {order[0]} ({scores[order[0]].mean:.4g}), worst: "
            f"{order[-1]} ({scores[order[-1]].mean:.4g})."
        )
        ends = [Series("score", [scores[n].mean for n in cells], [scores[n].low for n in cells],
                       [scores[n].high for n in cells])]  # fmt: skip
        caption = "Score by place at equal parameters, with 95 % intervals over seeds."
        return Shown(
            [finding], [table], [bars("placement", caption, list(cells), Axis(unit), ends)]
        )


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


def _against(cells: dict[str, list[Record]], order: Sequence[str]) -> dict[str, list[Any]]:
    """How far each is below the best, and the corrected p of that."""
    best = cells[order[0]]
    found: dict[str, list[Any]] = {order[0]: [None, None]}
    tests = {}
    for name in order[1:]:
        pairs = [(a.figures["score"], b.figures["score"]) for a in best for b in cells[name]
                 if a.settings["seed"] == b.settings["seed"]]  # fmt: skip
        tests[name] = paired(*map(list, zip(*pairs)))
    known = [name for name, own in tests.items() if own.p is not None]
    adjusted = dict(zip(known, holm([tests[name].p for name in known])))
    for name, own in tests.items():
        found[name] = [abs(own.difference.mean), adjusted.get(name)]
    return found
