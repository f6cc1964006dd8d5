"""Errors and correlations of numbers; a correlation with a constant is 0.0, by convention."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lorakit.core.errors import DataError

Numbers = Sequence[float] | np.ndarray


def mse(answers: Numbers, targets: Numbers) -> float:
    """The mean squared error; infinite where a square is too large for float64."""
    found, wanted = _checked(answers, targets)
    with np.errstate(over="ignore"):
        return float(np.mean((found - wanted) ** 2))


def mae(answers: Numbers, targets: Numbers) -> float:
    """The mean absolute error; infinite where a difference is too large for float64."""
    found, wanted = _checked(answers, targets)
    with np.errstate(over="ignore"):
        return float(np.mean(np.abs(found - wanted)))


def pearson(answers: Numbers, targets: Numbers) -> float:
    """Pearson's correlation, from -1 to 1; 0.0 where either side is constant."""
    return _correlation(*_checked(answers, targets))


def spearman(answers: Numbers, targets: Numbers) -> float:
    """Spearman's correlation of ranks, equal values sharing their mean rank; 0.0 as above."""
    from scipy.stats import rankdata

    found, wanted = _checked(answers, targets)
    return _correlation(rankdata(found), rankdata(wanted))


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    # Equal numbers need not have a mean that equals them: ask for the constant, not for the norm.
    if (first == first[0]).all() or (second == second[0]).all():
        return 0.0
    product = float(_unit(first) @ _unit(second))
    return min(max(product, -1.0), 1.0)


def _unit(values: np.ndarray) -> np.ndarray:
    """The values about their mean, of length 1; scaled first, so that no square overflows."""
    values = values / np.abs(values).max()
    values = values - values.mean()
    values = values / np.abs(values).max()
    return values / np.sqrt(values @ values)


def _checked(answers: Numbers, targets: Numbers) -> tuple[np.ndarray, np.ndarray]:
    try:
        found, wanted = (np.asarray(side, dtype=np.float64) for side in (answers, targets))
    except (TypeError, ValueError) as error:
        raise DataError(
            f"Answers and targets must be lists of numbers, one for each row: {error}."
        ) from error
    if found.ndim != 1 or found.shape != wanted.shape:
        raise DataError(
            f"Got answers of shape {found.shape} and targets of shape {wanted.shape}; each row "
            "needs one number on either side."
        )
    if not len(found):
        raise DataError("Got no rows to score; a metric needs at least one.")
    for side, values in (("answer", found), ("target", wanted)):
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            raise DataError(
                f"The {side} of row {bad[0]} is {values[bad[0]]}; leave rows that are no numbers "
                "out, or find out why the model answers so."
            )
    return found, wanted
