"""Placement: where a fixed number of parameters is best spent (Hu et al. 2021, table 5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from lorakit.analysis.cost import cost
from lorakit.core.errors import PlanError, RecipeError
from lorakit.models.allocate import allocate
from lorakit.models.load import empty_model
from lorakit.models.plan import plan
from lorakit.study.figures import Axis, Series, bars
from lorakit.study.kinds import Record, Setting, Shown
from lorakit.study.runs import Runs, better, by_setting, mean_of, metric, recipe_of, scored
from lorakit.study.statistics import holm, paired
from lorakit.study.table import Column, Table
from lorakit.tasks import make_task

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

        All others get as many parameters as that, or less by a part of a rank.
        """
        few = [["q"], ["q", "v"], ["mlp"]]
        more = [["q"], ["k"], ["v"], ["o"], ["q", "k"], ["q", "v"], ["q", "k", "v", "o"], ["mlp"],
                ["all-linear"]]  # fmt: skip
        return {
            "targets": few if quick else more, "rank": 8, "seeds": [0, 1] if quick else [0, 1, 2],
        }  # fmt: skip

    def settings(self, setting: Setting) -> list[dict[str, Any]]:
        """Every choice of places with the budget of the first."""
        return [
            {"targets": list(own), "params": _budget(setting)} for own in setting.option("targets")
        ]

    def overrides(self, settings: Mapping[str, Any], setting: Setting) -> dict[str, Any]:
        """Places, and as many parameters as the budget has."""
        del setting
        return {
            "lora.targets": settings["targets"], "lora.params": settings["params"],
            "lora.by": "uniform",
        }  # fmt: skip

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


def _budget(setting: Setting) -> int:
    """The parameters of the first choice of places at the study's rank."""
    recipe = recipe_of(setting)
    model = empty_model(recipe.model, make_task(recipe.task, recipe.data).kind)
    first, rank = setting.option("targets")[0], setting.option("rank")
    count = cost(model, plan(model, list(first), rank)).parameters
    for targets in setting.option("targets"):
        _check(model, list(targets), count)
    return count


def _check(model: nn.Module, targets: list[str], params: int) -> None:
    try:
        allocate(model, targets, params=params, by="uniform")
    except PlanError as error:
        raise RecipeError(
            f"{', '.join(targets)}: {error} Raise study.rank, whose parameters all places get."
        ) from error


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
