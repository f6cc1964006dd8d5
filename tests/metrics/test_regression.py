from __future__ import annotations

import math

import pytest
import scipy.stats
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lorakit.core.errors import DataError
from lorakit.metrics.regression import mae, mse, pearson, spearman

numbers = st.floats(-1e6, 1e6).map(lambda value: round(value, 3))
rows = st.lists(st.tuples(numbers, numbers), min_size=2, max_size=12)


def test_by_hand():
    answers, targets = [1, 2, 3], [2, 4, 7]
    assert mse(answers, targets) == pytest.approx((1 + 4 + 16) / 3)
    assert mae(answers, targets) == pytest.approx((1 + 2 + 4) / 3)
    # About the means 2 and 13/3: products 7/3 + 0 + 8/3 = 5, squares 2 and 38/3.
    assert pearson(answers, targets) == pytest.approx(5 / math.sqrt(2 * 38 / 3))


def test_equal_values_share_their_mean_rank():
    # Ranks 1, 2.5, 2.5, 4 and 1, 2, 3, 4: products 4.5, squares 4.5 and 5.
    found = spearman([10, 20, 20, 90], [1, 2, 3, 100])
    assert found == pytest.approx(4.5 / math.sqrt(4.5 * 5))


@pytest.mark.parametrize("measure", [pearson, spearman])
def test_a_constant_correlates_with_nothing(measure):
    assert measure([0.1, 0.1, 0.1], [1, 2, 3]) == 0.0
    assert measure([1, 2, 3], [0.1, 0.1, 0.1]) == 0.0
    assert measure([5], [5]) == 0.0


def test_large_numbers():
    assert pearson([1e300, 2e300, 3e300], [1, 2, 3]) == pytest.approx(1)
    assert mse([1e300], [-1e300]) == math.inf
    assert mae([1.5e308], [-1.5e308]) == math.inf


@settings(max_examples=60, deadline=None)
@given(rows)
def test_they_are_scipys(pairs):
    answers, targets = map(list, zip(*pairs))
    assume(len(set(answers)) > 1 and len(set(targets)) > 1)
    expected = scipy.stats.spearmanr(answers, targets)[0]  # pyright: ignore
    assert spearman(answers, targets) == pytest.approx(expected, abs=1e-9)
    # scipy warns where the spread is small against the mean.
    spread = min(max(side) - min(side) for side in (answers, targets))
    assume(spread > 1e-3 * max(map(abs, [*answers, *targets])))
    expected = scipy.stats.pearsonr(answers, targets)[0]  # pyright: ignore
    assert pearson(answers, targets) == pytest.approx(expected, abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(rows, st.randoms())
def test_properties(pairs, rng):
    answers, targets = map(list, zip(*pairs))
    assert mse(targets, targets) == mae(targets, targets) == 0
    assert mae(answers, targets) ** 2 <= mse(answers, targets) * (1 + 1e-9)
    for measure in (pearson, spearman):
        assert -1 <= measure(answers, targets) <= 1
        assert measure(targets, answers) == pytest.approx(measure(answers, targets), abs=1e-9)
    if len(set(targets)) > 1:
        assert pearson(targets, targets) == pytest.approx(1)
        assert spearman([-value for value in targets], targets) == pytest.approx(-1)
    before = [measure(answers, targets) for measure in (mse, mae, spearman)]
    rng.shuffle(pairs)
    answers, targets = map(list, zip(*pairs))
    after = [measure(answers, targets) for measure in (mse, mae, spearman)]
    assert after == pytest.approx(before)


@pytest.mark.parametrize(
    ("answers", "targets", "match"),
    [
        ([1, 2], [1], "shape"),
        ([[1]], [[1]], "shape"),
        ([], [], "no rows"),
        ([1, float("nan")], [1, 2], "The answer of row 1 is nan"),
        ([1], [float("inf")], "The target of row 0 is inf"),
        (["x"], [1], "lists of numbers"),
        ([None, [1]], [1, 2], "lists of numbers"),
    ],
)
def test_what_cannot_be_scored(answers, targets, match):
    for measure in (mse, mae, pearson, spearman):
        with pytest.raises(DataError, match=match):
            measure(answers, targets)
