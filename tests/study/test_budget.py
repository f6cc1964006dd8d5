"""Budgets: the page from records whose answers are known, and mistakes."""

from __future__ import annotations

import pytest
from made import record, setting_of

from lorakit.core.errors import RecipeError
from lorakit.study import STUDIES

RANKS = {"layers.0.q": 2, "layers.0.v": 0, "layers.1.q": 1, "layers.1.v": 1}


def made(scores, metric="eval_accuracy"):
    return [
        record({"params": params, "by": way, "seed": seed}, value, metric, ranks=RANKS,
               dealt=params - 1)
        for (params, way), values in scores.items()
        for seed, value in enumerate(values)
    ]  # fmt: skip


def shown(scores, metric="eval_accuracy"):
    return STUDIES["budget"].show(made(scores, metric), setting_of("budget"))


def test_ways_are_compared_with_equal_ranks_of_the_same_budget():
    found = shown({
        (10, "uniform"): [0.50, 0.51, 0.52], (10, "gradient"): [0.60, 0.61, 0.62],
        (99, "uniform"): [0.70, 0.71, 0.72], (99, "gradient"): [0.60, 0.61, 0.62],
    })  # fmt: skip
    assert found.findings == [
        "Better than equal ranks by the 95 % interval, uncorrected: gradient at 10.",
        "Worse than equal ranks by the 95 % interval, uncorrected: gradient at 99.",
    ]
    rows = {tuple(row[:2]): row[2:] for row in found.tables[0].rows}
    assert rows[10, "gradient"][0] == 9
    assert rows[10, "gradient"][2].mean == pytest.approx(10)  # percent, as the score beside it
    assert rows[99, "gradient"][2].mean == pytest.approx(-10)
    assert rows[10, "gradient"][3] == 0.5
    assert rows[10, "gradient"][4] == 1
    assert rows[10, "uniform"][2:4] == [None, None]
    assert [own.name for own in found.pictures] == ["budget", "ranks"]


def test_less_of_a_loss_is_better():
    found = shown({
        (10, "uniform"): [2.0, 2.1, 2.2], (10, "weight"): [1.0, 1.1, 1.21],
        (10, "activation"): [2.1, 2.0, 2.2],
    }, "eval_loss")  # fmt: skip
    assert "Better than equal ranks by the 95 % interval, uncorrected: weight at 10." in (
        found.findings
    )
    assert "Not told apart from equal ranks by these seeds: 1 of 2." in found.findings


def test_what_failed_leaves_a_gap():
    found = shown({
        (10, "uniform"): [0.5], (10, "gradient"): [0.6], (99, "gradient"): [0.7],
    })  # fmt: skip
    rows = {tuple(row[:2]): row for row in found.tables[0].rows}
    assert rows[99, "gradient"][4:6] == [None, None]
    for picture in found.pictures:
        picture.figure.draw_without_rendering()
    assert [axes.get_title() for axes in found.pictures[1].figure.axes if axes.get_title()] == [
        "gradient"
    ]


@pytest.mark.parametrize(("by", "words"), [
    (["uniform", "gradients"], "gradient"), (["gradient"], "uniform"),
])  # fmt: skip
def test_ways_that_are_none_are_refused(recipe, tmp_path, by, words):
    with pytest.raises(RecipeError, match=words):
        STUDIES["budget"].cells(setting_of("budget", tmp_path, recipe, by=by))
