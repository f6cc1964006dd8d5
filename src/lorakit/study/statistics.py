"""What a handful of runs says about a method: intervals, paired tests, corrections, effects."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

CONFIDENCE = 0.95
DRAWS = 10_000
# Below this many values a percentile bootstrap covers less than it says (at 3 of a normal
# distribution 73 % instead of 95 %), and Student's t is taken.
ENOUGH = 30


@dataclass(frozen=True)
class Interval:
    """A mean, or another middle, and the ends of its confidence interval; `how` names the method.

    With a single value there is no interval: both ends are None.
    """

    mean: float
    low: float | None
    high: float | None
    n: int
    how: str

    @property
    def half(self) -> float | None:
        """Half of its width, where the middle is in the middle."""
        if self.low is None or self.high is None:
            return None
        up, down = self.high - self.mean, self.mean - self.low
        return up if math.isclose(up, down, rel_tol=1e-6, abs_tol=1e-12) else None


@dataclass(frozen=True)
class Paired:
    """How much the first of two is above the second, over the same seeds or tasks.

    `p` is that of the two-sided sign-flip test, None where there are fewer than two pairs;
    `exact` says that every pattern of signs was counted. `effect` is the mean difference in
    standard deviations of the differences, None where these do not differ.
    """

    difference: Interval
    p: float | None
    exact: bool
    effect: float | None


def interval(values: Sequence[float], *, confidence: float = CONFIDENCE) -> Interval:
    """The mean of runs with its interval: Student's t below 30 values, then a bootstrap."""
    if len(values) < ENOUGH:
        return t_interval(values, confidence=confidence)
    return bootstrap_interval(values, confidence=confidence)


def t_interval(values: Sequence[float], *, confidence: float = CONFIDENCE) -> Interval:
    """The mean and Student's interval: mean -+ t(n - 1) s / sqrt(n) (Student 1908)."""
    from scipy import stats

    own = _numbers(values)
    mean, n = float(own.mean()), len(own)
    if n < 2:
        return Interval(mean, None, None, n, "a single run")
    half = float(stats.t.ppf((1 + confidence) / 2, n - 1) * own.std(ddof=1) / math.sqrt(n))
    return Interval(mean, mean - half, mean + half, n, _named("Student's t", confidence))


def bootstrap_interval(
    values: Sequence[float], *, confidence: float = CONFIDENCE, draws: int = DRAWS, seed: int = 0
) -> Interval:
    """The mean and the percentiles of resampled means (Efron 1979)."""
    own = _numbers(values)
    mean, n = float(own.mean()), len(own)
    if n < 2:
        return Interval(mean, None, None, n, "a single run")
    numbers = np.random.default_rng(seed)
    means = np.concatenate(
        [own[numbers.integers(0, n, (part, n))].mean(1) for part in _parts(draws, n)]
    )
    low, high = _percentiles(means, confidence)
    return Interval(mean, low, high, n, _named("percentile bootstrap", confidence))


def median_interval(values: Sequence[float], *, confidence: float = CONFIDENCE) -> Interval:
    """The median between two order statistics, of whatever distribution (David & Nagaraja 2003).

    The narrowest symmetric pair that holds the median with at least this confidence; with too few
    values for any (5 for 95 %), the smallest and the largest.
    """
    from scipy import stats

    own = np.sort(_numbers(values))
    n = len(own)
    if n < 2:
        return Interval(float(own[0]), None, None, n, "a single value")
    # Between the (k+1)th and the (n-k)th lies the median with 1 - 2 P(Binomial(n, 1/2) <= k).
    cut = int(stats.binom.ppf((1 - confidence) / 2, n, 0.5))
    while cut >= 0 and 2 * stats.binom.cdf(cut, n, 0.5) > 1 - confidence:
        cut -= 1
    place = max(cut, 0)
    low, high = float(own[place]), float(own[n - 1 - place])
    how = _named("order statistics of the median", confidence) if cut >= 0 else "the whole range"
    return Interval(float(np.median(own)), low, high, n, how)


def paired(
    first: Sequence[float], second: Sequence[float], *, confidence: float = CONFIDENCE
) -> Paired:
    """Compare two methods over the same seeds or tasks, given in the same order."""
    one, two = _numbers(first), _numbers(second)
    if len(one) != len(two):
        raise ValueError(f"pairs need as many values of both, got {len(one)} and {len(two)}")
    gaps = one - two
    difference = interval(gaps.tolist(), confidence=confidence)
    if len(gaps) < 2:
        return Paired(difference, None, False, None)
    p, exact = sign_flip_test(gaps.tolist())
    return Paired(difference, p, exact, paired_effect(gaps.tolist()))


def sign_flip_test(
    differences: Sequence[float], *, draws: int = DRAWS, seed: int = 0
) -> tuple[float, bool]:
    """The two-sided p of the mean under swaps of the pairs, and whether all were counted.

    All 2^n patterns of signs are, where these are no more than `draws` (up to n = 13); else random
    ones, and p counts the observed one as drawn too (Phipson & Smyth 2010). Three pairs never give
    less than 1/4, five than 1/16.
    """
    gaps = _numbers(differences)
    n = len(gaps)
    exact = 2**n <= draws
    if exact:
        patterns = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
    else:
        patterns = np.random.default_rng(seed).integers(0, 2, (draws, n))
    sums = np.abs((1 - 2 * patterns) @ gaps)
    # Sums that are equal on paper differ by rounding.
    as_far = int((sums >= abs(gaps.sum()) * (1 - 1e-9) - 1e-15).sum())
    return (as_far / len(sums) if exact else (as_far + 1) / (draws + 1)), exact


def rows_interval(
    scores: Any, *, crossed: bool = True, confidence: float = CONFIDENCE, draws: int = DRAWS,
    seed: int = 0,
) -> Interval:  # fmt: skip
    """The mean of per-row scores (seeds, rows), resampled over both seeds and rows.

    `crossed`: every seed was evaluated on the same rows, so that a draw takes the same rows for all
    (Owen 2007, the pigeonhole bootstrap); else each seed has rows of its own and draws among these
    (hierarchical). For a comparison pass differences of two methods' scores. With few seeds the
    part that seeds have in it is short by (n - 1) / n.
    """
    table = np.asarray(scores, dtype=np.float64)
    if table.ndim != 2 or not table.size or not np.isfinite(table).all():
        raise ValueError(f"expected finite scores of (seeds, rows), got shape {table.shape}")
    seeds, rows = table.shape
    numbers = np.random.default_rng(seed)
    means = np.empty(draws)
    for draw in range(draws):
        chosen = numbers.integers(0, seeds, seeds)
        if crossed:
            means[draw] = table[chosen][:, numbers.integers(0, rows, rows)].mean()
        else:
            own = numbers.integers(0, rows, (seeds, rows))
            means[draw] = np.take_along_axis(table[chosen], own, 1).mean()
    low, high = _percentiles(means, confidence)
    kind = "crossed" if crossed else "hierarchical"
    how = _named(f"{kind} bootstrap of seeds and rows", confidence)
    return Interval(float(table.mean()), low, high, seeds, how)


def holm(values: Sequence[float]) -> list[float]:
    """P-values adjusted for the chance of any false one among them (Holm 1979), in their order."""
    order = np.argsort(values, kind="stable")
    found = np.empty(len(values))
    highest = 0.0
    for place, number in enumerate(order):
        highest = max(highest, min(1.0, (len(values) - place) * values[number]))
        found[number] = highest
    return found.tolist()


def benjamini_hochberg(values: Sequence[float]) -> list[float]:
    """P-values adjusted for the share of false ones among those found (1995), in their order."""
    from scipy import stats

    return stats.false_discovery_control(values, method="bh").tolist() if len(values) else []


def paired_effect(differences: Sequence[float]) -> float | None:
    """Cohen's d of pairs: the mean difference over the differences' standard deviation."""
    gaps = _numbers(differences)
    spread = float(gaps.std(ddof=1)) if len(gaps) > 1 else 0.0
    return float(gaps.mean()) / spread if spread > 1e-12 * abs(float(gaps.mean())) else None


def hedges_g(first: Sequence[float], second: Sequence[float]) -> float | None:
    """The difference of two means over the pooled deviation, without bias of few values (1981)."""
    one, two = _numbers(first), _numbers(second)
    free = len(one) + len(two) - 2
    if free < 1:
        return None
    squares = (len(one) * one.var() + len(two) * two.var()) / free
    if squares <= 0:
        return None
    return float((one.mean() - two.mean()) / math.sqrt(squares) * (1 - 3 / (4 * free - 1)))


def cliffs_delta(first: Sequence[float], second: Sequence[float]) -> float:
    """How much more often one of the first is above one of the second than below: -1 to 1."""
    gaps = _numbers(first)[:, None] - _numbers(second)[None, :]
    return float(np.sign(gaps).mean())


def _numbers(values: Sequence[float]) -> np.ndarray:
    own = np.asarray(values, dtype=np.float64)
    if own.ndim != 1 or not own.size or not np.isfinite(own).all():
        raise ValueError(f"expected some finite numbers, got {values!r}")
    return own


def _percentiles(means: np.ndarray, confidence: float) -> tuple[float, float]:
    tail = 100 * (1 - confidence) / 2
    low, high = np.percentile(means, [tail, 100 - tail])
    return float(low), float(high)


def _parts(draws: int, size: int) -> list[int]:
    """The draws in parts of some million numbers, so that memory stays small."""
    most = max(1, 2_000_000 // size)
    return [most] * (draws // most) + ([draws % most] if draws % most else [])


def _named(how: str, confidence: float) -> str:
    return f"{confidence:.0%}, {how}"
