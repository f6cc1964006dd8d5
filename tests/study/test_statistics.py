"""Statistics against definitions worked by hand, and intervals against what they promise."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from lorakit.study.statistics import (
    ENOUGH,
    benjamini_hochberg,
    bootstrap_interval,
    cliffs_delta,
    hedges_g,
    holm,
    interval,
    median_interval,
    paired,
    paired_effect,
    rows_interval,
    sign_flip_test,
    t_interval,
)


def test_students_interval_by_hand():
    # 1, 2, 3: mean 2, s = 1, t(2) = 4.3027; half = 4.3027 / sqrt(3)
    found = t_interval([1, 2, 3])
    assert found.mean == 2
    assert found.half == pytest.approx(2.4841, abs=1e-4)
    assert "Student" in found.how
    low, high = stats.t.interval(0.9, 3, 5.25, stats.sem([4, 5, 5, 7]))
    other = t_interval([4, 5, 5, 7], confidence=0.9)
    assert (other.low, other.high) == pytest.approx((low, high))


def test_a_single_run_has_no_interval():
    for make in (t_interval, bootstrap_interval, median_interval, interval):
        found = make([3.5])
        assert (found.mean, found.low, found.high, found.half) == (3.5, None, None, None)


def test_the_kind_of_interval_follows_the_number_of_runs():
    numbers = np.random.default_rng(0)
    assert "Student" in interval(numbers.normal(size=3).tolist()).how
    assert "Student" in interval(numbers.normal(size=ENOUGH - 1).tolist()).how
    assert "bootstrap" in interval(numbers.normal(size=ENOUGH).tolist()).how


@pytest.mark.parametrize("bad", [[], [1.0, math.nan], [math.inf]])
def test_what_is_no_number_is_refused(bad):
    with pytest.raises(ValueError, match="finite"):
        interval(bad)


def coverage(make, draw, truth, trials=400):
    numbers = np.random.default_rng(1)
    inside = 0
    for _ in range(trials):
        found = make(draw(numbers).tolist())
        inside += found.low <= truth <= found.high
    return inside / trials


def test_intervals_cover_what_they_say():
    def normal(n):
        return lambda numbers: numbers.normal(5, 2, n)

    assert coverage(t_interval, normal(3), 5) == pytest.approx(0.95, abs=0.03)
    few = coverage(lambda v: bootstrap_interval(v, draws=500), normal(3), 5)
    assert few < 0.85  # why three seeds get Student's
    many = coverage(lambda v: bootstrap_interval(v, draws=500), normal(60), 5)
    assert many == pytest.approx(0.95, abs=0.035)
    skewed = coverage(median_interval, lambda n: n.exponential(1, 15), math.log(2))
    assert 0.93 <= skewed <= 1  # of whatever distribution


def test_median_interval_by_hand():
    # n = 8: 1 - 2 P(B <= 0) = 99.2 %, and with k = 1 only 93 %: the whole range for 95 %
    found = median_interval([5, 1, 2, 8, 7, 3, 6, 4])
    assert (found.low, found.mean, found.high) == (1, 4.5, 8)
    # n = 10: k = 1 gives 97.9 %: the second and the ninth
    found = median_interval(list(range(1, 11)))
    assert (found.low, found.high) == (2, 9)
    assert median_interval([1, 2, 3]).how == "the whole range"


def test_sign_flips_by_hand():
    # All of one sign: only the pattern itself and its mirror are as far.
    assert sign_flip_test([1, 2, 3]) == (2 / 8, True)
    assert sign_flip_test([0.1, 0.2, 0.1, 0.3, 0.2]) == (2 / 32, True)
    # 3, 2, -1: sums of +-3 +-2 +-1 with |sum| >= 4: +-6, +-4
    assert sign_flip_test([3, 2, -1]) == (4 / 8, True)
    assert sign_flip_test([0, 0, 0])[0] == 1


def test_sign_flips_against_scipy_and_against_many_draws():
    numbers = np.random.default_rng(2)
    gaps = numbers.normal(0.4, 1, 10)
    every = [abs(np.dot(signs, gaps)) for signs in itertools.product((1, -1), repeat=10)]
    expected = np.mean([own >= abs(gaps.sum()) - 1e-12 for own in every])
    p, exact = sign_flip_test(gaps.tolist())
    assert exact
    assert p == pytest.approx(expected)
    test = stats.permutation_test(
        (gaps, np.zeros(10)), lambda a, b: np.mean(a - b), permutation_type="samples",
        n_resamples=5000,
    )  # fmt: skip
    assert p == pytest.approx(test.pvalue)
    long = numbers.normal(0.35, 1, 40)
    p, exact = sign_flip_test(long.tolist())
    assert not exact
    assert p == pytest.approx(stats.ttest_1samp(long, 0).pvalue, abs=0.02)


def test_sign_flips_find_nothing_where_there_is_nothing():
    numbers = np.random.default_rng(3)
    found = [sign_flip_test(numbers.normal(size=7).tolist())[0] for _ in range(400)]
    assert np.mean(np.array(found) <= 0.05) == pytest.approx(0.05, abs=0.03)


def test_pairs_are_compared_within_seeds():
    # Seeds differ a lot, the methods by 0.1 in each.
    first, second = [1.1, 5.1, 9.12], [1.0, 5.0, 9.0]
    found = paired(first, second)
    assert found.difference.mean == pytest.approx(0.32 / 3)
    assert found.difference.low > 0
    assert found.p == 0.25
    assert found.exact
    gaps = [a - b for a, b in zip(first, second)]
    assert found.effect == pytest.approx(np.mean(gaps) / np.std(gaps, ddof=1))
    alone = paired([2.0], [1.0])
    assert (alone.difference.mean, alone.p, alone.effect) == (1.0, None, None)
    assert paired_effect([0.5, 0.5, 0.5]) is None
    with pytest.raises(ValueError, match="as many"):
        paired([1, 2], [1])


def test_corrections_by_hand():
    # Holm 1979: 0.01*4, then 0.02*3, 0.03*2 -> not below the one before, 0.04*1
    assert holm([0.01, 0.04, 0.03, 0.02]) == pytest.approx([0.04, 0.06, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    # Benjamini & Hochberg: p m / rank, made rising: 0.01*4/1, 0.02*4/2, 0.03*4/3, 0.04*4/4
    assert benjamini_hochberg([0.01, 0.04, 0.03, 0.02]) == pytest.approx([0.04] * 4)
    assert benjamini_hochberg([0.005, 0.5]) == pytest.approx([0.01, 0.5])
    assert holm([]) == benjamini_hochberg([]) == []


def test_effects_by_hand():
    # Means 2 and 4, pooled s = 1, 4 degrees of freedom: -2 * (1 - 3 / 15)
    assert hedges_g([1, 2, 3], [3, 4, 5]) == pytest.approx(-2 * 0.8)
    assert hedges_g([1, 1], [1, 1]) is None
    assert cliffs_delta([2, 3], [1, 1]) == 1
    assert cliffs_delta([1, 2], [1, 2]) == 0
    assert cliffs_delta([1, 2, 3], [2, 2]) == 0


def test_rows_and_seeds_together():
    numbers = np.random.default_rng(4)
    easy = numbers.normal(0, 1, 200)  # how easy each row is, for every seed
    scores = 3 + easy + numbers.normal(0, 0.05, (3, 200))
    crossed = rows_interval(scores, draws=1500)
    nested = rows_interval(scores, crossed=False, draws=1500)
    assert crossed.mean == nested.mean == pytest.approx(scores.mean())
    expected = 2 * 1.96 * easy.std() / math.sqrt(200)
    assert crossed.high - crossed.low == pytest.approx(expected, rel=0.12)
    # Rows that are the same ones must not be counted thrice.
    assert nested.high - nested.low < 0.75 * (crossed.high - crossed.low)
    with pytest.raises(ValueError, match="seeds, rows"):
        rows_interval([1.0, 2.0])


def test_the_bootstrap_is_the_same_each_time_and_sees_scale():
    values = np.random.default_rng(5).normal(0, 1, 50).tolist()
    one, two = bootstrap_interval(values), bootstrap_interval(values)
    assert one == two
    large = bootstrap_interval([10 * value for value in values])
    assert large.high - large.low == pytest.approx(10 * (one.high - one.low))
    assert one.high - one.low == pytest.approx(2 * 1.96 * np.std(values) / math.sqrt(50), rel=0.1)
