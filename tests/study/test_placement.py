"""Placement: ranks at equal parameters, and the page from records whose answers are known."""

from __future__ import annotations

import functools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made import record, rows_of, setting_of

from families import CONFIGS
from lorakit.analysis.cost import cost
from lorakit.core.errors import RecipeError
from lorakit.models.load import structure
from lorakit.models.plan import plan
from lorakit.study import STUDIES
from lorakit.study.placement import dealt

PLACES = [["q"], ["k"], ["q", "v"], ["q", "k", "v", "o"], ["mlp"], ["all-linear"]]


@functools.cache
def model(family):
    return structure(CONFIGS[family](), "causal")


@given(st.sampled_from(["llama", "gpt2"]), st.sampled_from(PLACES), st.integers(1, 200_000))
@settings(max_examples=80, deadline=None)
def test_a_budget_is_never_exceeded_and_almost_spent(family, targets, params):
    own = model(family)
    costs = {line.path: line.rows + line.columns for line in cost(own, plan(own, targets, 1)).lines}
    if params < sum(costs.values()):
        with pytest.raises(RecipeError, match=r"study\.rank"):
            dealt(own, targets, params)
        return
    ranks = dealt(own, targets, params)
    spent = cost(own, plan(own, list(ranks), ranks)).parameters
    assert spent == sum(costs[path] * rank for path, rank in ranks.items())
    assert params - max(costs.values()) < spent <= params
    assert max(ranks.values()) - min(ranks.values()) <= 1
    assert ranks.keys() == costs.keys()


def made(scores, metric="eval_accuracy"):
    return [
        record({"targets": [place], "ranks": {"a": 8}, "seed": seed}, value, metric)
        for place, values in scores.items()
        for seed, value in enumerate(values)
    ]


def test_places_are_compared_with_the_best_in_the_tables_own_unit():
    scores = {"q": [0.70, 0.71, 0.72], "v": [0.75, 0.76, 0.77], "mlp": [0.60, 0.60, 0.63]}
    found = STUDIES["placement"].show(made(scores), setting_of("placement"))
    assert found.findings == ["Best at equal parameters: v (76.0), worst: mlp (61.0)."]
    rows = rows_of(found.tables[0])
    assert rows["v"][2:4] == [None, None]
    assert rows["q"][2].mean == pytest.approx(5)
    assert rows["q"][3] == rows["mlp"][3] == 0.5  # 1/4 each, times 2
    assert rows["q"][4:] == [8, 70.4]
    assert rows["mlp"][4:] == [None, None]


def test_of_a_loss_the_lowest_is_best():
    found = STUDIES["placement"].show(
        made({"q": [1.0, 1.1], "v": [2.0, 2.1]}, "eval_loss"), setting_of("placement")
    )
    assert found.findings[0].startswith("Best at equal parameters: q (1.05)")
    assert rows_of(found.tables[0])["v"][2].mean == pytest.approx(1)


def test_seeds_without_a_pair_and_a_single_place():
    study, setting = STUDIES["placement"], setting_of("placement")
    one, two = made({"q": [0.7, 0.8], "v": [0.6, 0.6]})[:2], made({"v": [0.6, 0.6, 0.6]})[2:]
    rows = rows_of(study.show([*one, *two], setting).tables[0])
    assert rows["v"][2:4] == [None, None]
    alone = study.show(one[:1], setting)
    assert alone.findings == []
