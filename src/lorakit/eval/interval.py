"""How sure a figure is: the percentile bootstrap over rows (Efron and Tibshirani 1993, ch. 13)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

RESAMPLES = 1000
COVERAGE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A figure over `rows` rows, and its 95 % interval; None where there is but one row."""

    value: float
    rows: int
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.value:.4g}"
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"


def estimate(
    rows: int, measure: Callable[[np.ndarray], dict[str, float]], *, resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Estimate]:  # fmt: skip
    """Every figure of `measure`, which takes the places of the rows to count, with its interval.

    Rows are drawn with replacement from a fixed seed: the same rows give the same interval. It
    tells what other test rows would change, and not what another training seed would.
    """
    values = measure(np.arange(rows))
    if rows < 2:
        return {name: Estimate(value, rows) for name, value in values.items()}
    generator = np.random.default_rng(seed)
    drawn = [measure(generator.integers(0, rows, rows)) for _ in range(resamples)]
    edges = [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2]
    found = {}
    for name, value in values.items():
        low, high = np.quantile([one[name] for one in drawn], edges)
        found[name] = Estimate(value, rows, float(low), float(high))
    return found
