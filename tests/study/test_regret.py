"""Regret: the page from records whose answers are known."""

from __future__ import annotations

import pytest
from made import record, rows_of, setting_of

from lorakit.core.errors import RecipeError
from lorakit.study import STUDIES

RATES = [1e-4, 1e-3, 1e-2]


def shown(scores, metric="eval_loss", rates=RATES):
    records = [
        record({"way": way, "lr": lr, "seed": seed}, value, metric)
        for way, by_rate in scores.items()
        for lr, values in by_rate.items()
        for seed, value in enumerate(values)
    ]
    return STUDIES["regret"].show(records, setting_of("regret", rates=rates))


def test_rates_are_compared_with_that_of_full_fine_tuning():
    found = shown({
        "full": {1e-4: [1.0, 1.1], 1e-3: [1.5, 1.5], 1e-2: [9.0, 9.0]},
        "rank 1": {1e-4: [2.0, 2.0], 1e-3: [1.5, 1.5], 1e-2: [3.0, 3.0]},
        "rank 8": {1e-4: [2.0, 2.0], 1e-3: [1.2, 1.0], 1e-2: [1.0, 1.0]},
    })  # fmt: skip
    assert found.findings == [
        "The best learning rate over that of full fine-tuning: 10 (rank 1), 100 (rank 8).",
        "In the mean, each at its best rate, full (1.05) is reached by rank 8 (1).",
    ]
    rows = rows_of(found.tables[0])
    assert rows["full"][1:3] == ["0.0001 (edge)", 1]
    assert rows["rank 1"][1:3] == ["0.001", 10]
    assert rows["rank 8"][3].mean == 1
    # What diverged does not press the rest of the picture together.
    low, high = found.pictures[0].figure.axes[0].get_ylim()
    assert low < 1 < 2 < high < 4


def test_more_of_an_accuracy_is_better():
    found = shown({
        "full": {1e-4: [0.90], 1e-3: [0.91], 1e-2: [0.2]}, "rank 4": {1e-3: [0.8], 1e-2: [0.85]},
    }, "eval_accuracy")  # fmt: skip
    assert found.findings[1] == (
        "No rank reaches full (91.0), each at its best rate; nearest is rank 4 (85.0)."
    )
    assert rows_of(found.tables[0])["full"][1] == "0.001"
    assert "(edge)" in rows_of(found.tables[0])["rank 4"][1]
    found.pictures[0].figure.draw_without_rendering()


def test_a_rate_beside_ones_that_failed_is_no_edge():
    found = shown({"full": {1e-4: [2.0], 1e-3: [1.0]}, "rank 1": {1e-3: [1.0]}})
    assert rows_of(found.tables[0])["full"][1] == "0.001"
    one = shown({"full": {1e-3: [1.0]}}, rates=[1e-3])
    assert rows_of(one.tables[0])["full"][1] == "0.001"
    assert one.findings == []


def test_rates_are_above_zero():
    setting = setting_of("regret", rates=[0.1])
    setting.options["rates"][0] = 0.0
    with pytest.raises(RecipeError, match="above 0"):
        STUDIES["regret"].settings(setting)
