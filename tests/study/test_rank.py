"""Ranks: the page from records whose answers are known."""

from __future__ import annotations

import pytest
from made import record, rows_of, setting_of

from lorakit.study import STUDIES


def made(scores, metric="eval_accuracy"):
    return [
        record({"targets": list(targets), "rank": rank, "seed": seed}, value, metric,
               parameters=100 * rank)
        for (targets, rank), values in scores.items()
        for seed, value in enumerate(values)
    ]  # fmt: skip


def shown(scores, metric="eval_accuracy"):
    return STUDIES["rank"].show(made(scores, metric), setting_of("rank"))


def test_the_smallest_rank_that_reaches_the_best():
    found = shown({
        (("q",), 1): [0.50, 0.51, 0.52], (("q",), 2): [0.58, 0.60, 0.62],
        (("q",), 8): [0.60, 0.61, 0.62],
    })  # fmt: skip
    assert found.findings == [
        "q: best at rank 8 (61.0); the smallest rank whose interval reaches that is 2 (60.0, 200 "
        "parameters)."
    ]
    assert rows_of(found.tables[0])["q"][1].mean == pytest.approx(60)
    assert rows_of(found.tables[1])["q"] == [68.8, 69.6, 70.4]  # the paper's


def test_less_of_a_loss_is_better_and_missing_places_are_empty():
    scores = {
        (("q", "v"), 1): [1.0, 1.1], (("q", "v"), 4): [2.0, 2.1], (("mlp",), 4): [3.0, 3.2]
    }  # fmt: skip
    found = shown(scores, "eval_loss")
    assert found.findings[0].startswith("q, v: best at rank 1 (1.05)")
    assert rows_of(found.tables[0])["mlp"][0] is None
    assert "less is better" in found.tables[0].notes[0]
    assert list(rows_of(found.tables[1])) == ["q, v"]  # the paper has no row of mlp


def test_one_seed_tells_no_rank_from_another():
    found = shown({(("q",), 1): [0.5], (("q",), 8): [0.6]})
    assert found.findings == ["q: best at rank 8 (60.0, a single seed)."]
