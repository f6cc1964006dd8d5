"""Scores as tables have them, and comparisons over the same tasks and seeds."""

from __future__ import annotations

import pytest
from made import record

from lorakit.study.contrast import (
    by_setting,
    compared,
    digits,
    figure,
    metric,
    score,
    scored,
    seeds_of,
    weak,
)


def runs(scores, metric="eval_accuracy", seeds=None, **settings):
    seeds = range(len(scores)) if seeds is None else seeds
    return [record({**settings, "seed": s}, v, metric) for s, v in zip(seeds, scores, strict=True)]


def test_shares_are_shown_in_percent_and_losses_as_they_are():
    share, loss = runs([0.5, 0.6]), runs([2.0, 3.0], "eval_loss")
    assert [score(own) for own in share] == [50, 60]
    assert [score(own) for own in loss] == [2, 3]
    assert scored(share).mean == pytest.approx(55)
    assert metric(share) == "accuracy (%)"
    assert metric(loss) == "evaluation loss (nats per token)"
    assert (digits(share), digits(loss), digits(runs([1.0], "bleu"))) == (1, 3, None)
    assert (figure(55.25, share), figure(2.34567, loss)) == ("55.2", "2.346")


def test_above_zero_is_better_whatever_the_metric():
    more = compared({"a": (runs([0.8, 0.9]), runs([0.7, 0.8]))})["a"][0]
    less = compared({"a": (runs([1.0, 1.0], "eval_loss"), runs([1.5, 1.5], "eval_loss"))})["a"][0]
    assert more.difference.mean == pytest.approx(10)
    assert less.difference.mean == pytest.approx(0.5)


def test_only_runs_of_the_same_task_and_seed_are_pairs():
    first = runs([0.9, 0.8, 0.7], seeds=[0, 1, 2], task="a")
    second = runs([0.1, 0.6], seeds=[3, 1], task="a") + runs([0.0], seeds=[0], task="b")
    own, p = compared({"x": (first, second)})["x"]
    assert own.difference.n == 1
    assert own.difference.mean == pytest.approx(20)
    assert p is None
    assert compared({"x": (first, runs([0.5], seeds=[9], task="a"))}) == {}


def test_p_is_corrected_for_the_number_of_comparisons():
    base = runs([0.5] * 6)
    far, same = runs([0.6, 0.61, 0.62, 0.63, 0.64, 0.65]), runs([0.6, 0.4] * 3)
    found = compared({"far": (far, base), "same": (same, base), "none": (base[:1], base)})
    assert found["far"][0].p == pytest.approx(2 / 2**6)
    assert found["far"][1] == pytest.approx(2 * 2 / 2**6)  # two have a p; Holm: times 2
    assert found["same"][1] == 1
    assert found["none"][1] is None


def test_too_few_pairs_are_told():
    def told(n):
        return weak(compared({"a": (runs([0.6] * n), runs([0.5] * n))}))

    assert "no p below 0.25" in told(3)
    assert "One pair has no p" in told(1)
    assert told(6) == ""
    assert weak({}) == ""


def test_seeds_are_counted():
    assert seeds_of({1: runs([1, 2]), 2: runs([1, 2])}).startswith("means over 2 seeds")
    assert seeds_of({1: runs([1]), 2: runs([1, 2])}).startswith("means over 1 to 2 seeds")
    assert "no intervals" in seeds_of({1: runs([1])})
    assert [len(own) for own in by_setting(runs([1, 2], r=1) + runs([3], r=2)).values()] == [2, 1]
