"""Budgets: ranks dealt out by what layers need, against equal ranks, at equal parameters."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from lorakit.analysis.cost import cost
from lorakit.analysis.heatmap import grid
from lorakit.core.errors import RecipeError, did_you_mean
from lorakit.models.allocate import WAYS
from lorakit.models.plan import plan
from lorakit.study.contrast import (
    Tested,
    better,
    by_setting,
    compared,
    digits,
    mean_of,
    metric,
    scored,
    seeds_of,
    weak,
)
from lorakit.study.figures import Axis, Picture, Series, dots
from lorakit.study.kinds import Figures, Record, Setting, Shown
from lorakit.study.maps import Sides, heatmap
from lorakit.study.runs import Runs, recipe_of, structure_of
from lorakit.study.table import Column, Table
from lorakit.study.train import Trained
from lorakit.train.ranks import FILE
from lorakit.train.start import own_words

UNIFORM = "uniform"


class Budget(Runs):
    """The same parameters, dealt out in several ways."""

    name = "budget"
    title = "Budgets: ranks dealt out by what layers need"
    why = (
        "At equal parameters, is it better to give every layer the same rank, or to deal ranks out "
        "by gradients, activations or weights (Zhang et al. 2023, AdaLoRA; Paischer et al. 2024, "
        "EVA)?"
    )
    grows = ("ranks", "by", "seeds")
    kept = (FILE,)

    def options(self, *, quick: bool) -> dict[str, Any]:
        """Budgets are the parameters of equal `ranks`, ways to deal them out `by` have uniform."""
        return {
            "ranks": [2] if quick else [2, 8],
            "by": [UNIFORM, "gradient"] if quick else [UNIFORM, "gradient", "activation", "weight"],
            "seeds": [0, 1] if quick else [0, 1, 2],
        }

    def settings(self, setting: Setting) -> list[dict[str, Any]]:
        """Every way with every budget."""
        for way in setting.option("by"):
            if way not in WAYS:
                raise RecipeError(
                    f"study.by has {way!r}; known are {', '.join(WAYS)}.{did_you_mean(way, WAYS)}"
                )
        if UNIFORM not in setting.option("by"):
            raise RecipeError(f"study.by lacks {UNIFORM!r}, which all others are compared with.")
        recipe, model = recipe_of(setting), structure_of(recipe_of(setting))
        words = own_words(recipe)
        budgets = [cost(model, plan(model, words, r)).parameters for r in setting.option("ranks")]
        return [{"params": own, "by": way} for own in budgets for way in setting.option("by")]

    def overrides(self, settings: Mapping[str, Any], setting: Setting) -> dict[str, Any]:
        """The budget and how it is dealt out."""
        del setting
        return {"lora.params": settings["params"], "lora.by": settings["by"]}

    def looked(self, own: Trained) -> Figures:
        """The ranks of the run."""
        told = json.loads((own.folder / FILE).read_text(encoding="utf-8"))
        return {"ranks": told["ranks"], "dealt": told["parameters"]}

    def show(self, records: Sequence[Record], setting: Setting) -> Shown:
        """A row for each way and budget, with tests against equal ranks, and maps of ranks."""
        cells = {
            (own[0].settings["params"], own[0].settings["by"]): own
            for own in by_setting(records).values()
        }
        budgets = list(dict.fromkeys(params for params, _ in cells))
        ways = list(dict.fromkeys(way for _, way in cells))
        unit, more = metric(records), better(records)
        tests = compared({
            (params, way): (own, cells[params, UNIFORM])
            for (params, way), own in cells.items()
            if way != UNIFORM and (params, UNIFORM) in cells
        })  # fmt: skip
        decimals = digits(records)
        columns = [
            Column("budget", "parameters", 0), Column("dealt out by"), Column("spent", digits=0),
            Column(unit, digits=decimals, best="high" if more else "low"),
            Column("better than uniform by", digits=decimals), Column("p, corrected"),
            Column("layers left out"),
        ]  # fmt: skip
        rows = [
            [
                *key, mean_of(own, "dealt"), scored(own), *_gap(tests.get(key)),
                sum(rank == 0 for rank in own[0].figures["ranks"].values()),
            ]
            for key, own in cells.items()
        ]  # fmt: skip
        told = seeds_of(cells)
        notes = [
            f"{told[0].upper()}{told[1:]}; differences are paired by seed, above 0 is better, p by "
            "sign flips, corrected (Holm). No budget is exceeded; what is left of one is less than "
            "another rank. Layers left out are those of the first seed.",
            *filter(None, [weak(tests)]),
        ]
        table = Table(
            "budget",
            f"{unit[0].upper()}{unit[1:]} at equal parameters",
            columns,
            rows,
            notes,
            sections=0,
        )
        scores = {key: scored(own) for key, own in cells.items()}
        series = [Series.of(way, [scores.get((params, way)) for params in budgets]) for way in ways]
        caption = "Score by budget and way to deal it out, with 95 % intervals over seeds."
        names = [f"{params:,}" for params in budgets]
        pictures = [
            dots("budget", caption, names, Axis(unit), series, groups="budget (parameters)")
        ]
        return Shown(_findings(tests), [table], [*pictures, _maps(cells, budgets[-1], ways)])


Key = tuple[int, str]


def _gap(test: Tested | None) -> tuple[Any, float | None]:
    return (None, None) if test is None else (test[0].difference, test[1])


def _findings(tests: Mapping[Key, Tested]) -> list[str]:
    """Ways whose interval lies on one side of equal ranks, and how many do not."""
    named = {f"{way} at {params:,}": own.difference for (params, way), (own, _) in tests.items()}
    above = [name for name, own in named.items() if own.low is not None and own.low > 0]
    below = [name for name, own in named.items() if own.high is not None and own.high < 0]
    lines = [
        f"{what} than equal ranks by the 95 % interval, uncorrected: {', '.join(names)}."
        for what, names in (("Better", above), ("Worse", below)) if names
    ]  # fmt: skip
    rest = len(tests) - len(above) - len(below)
    if rest:
        lines.append(f"Not told apart from equal ranks by these seeds: {rest} of {len(tests)}.")
    return lines


def _maps(cells: dict[Key, list[Record]], params: int, ways: Sequence[str]) -> Picture:
    """The ranks of each way at one budget, by block and role."""
    panels, sides = {}, None
    for way in ways:
        if (params, way) not in cells:
            continue
        ranks = cells[params, way][0].figures["ranks"]
        found = grid({target: float(rank) for target, rank in ranks.items()})
        panels[way] = [[0.0 if math.isnan(v) else v for v in row] for row in found.values]
        rows = [row.rpartition(".")[2] for row in found.rows]
        sides = Sides("block", "layer", rows, found.columns)
    assert sides is not None
    caption = f"Ranks at a budget of {params:,} parameters, by block and layer (first seed)."
    return heatmap("ranks", caption, panels, sides, unit="rank")
