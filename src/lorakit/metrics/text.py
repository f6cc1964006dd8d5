"""What metrics of texts share: the form of their rows, and scores that are functions of sums.

Scales are those of the papers' tables (Hu et al. 2022, Tables 3 and 4): BLEU, chrF, TER, METEOR,
ROUGE and SQuAD's from 0 to 100 (TER can exceed it), NIST from 0 without a bound, CIDEr from 0 to
10. Higher is better, but for TER.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module, metadata
from typing import Any

import numpy as np

from lorakit.core.errors import DataError, MissingExtraError

Answers = Sequence[str]
References = Sequence[Sequence[str]]


@dataclass(frozen=True)
class TextMetric:
    """A metric of texts: called with answers and references, it is the score of all rows.

    The score is a function of sums over rows, so that a bootstrap draws rows of `statistics` and
    never scores a text twice: `total(statistics[drawn].sum(axis=0))`.

    - `rows`: checked answers and references to statistics, float64 (rows, k).
    - `total`: the sum of some rows' statistics, (k,), to the score of these rows.
    - `describe`: the number of references ("var" where it varies) to the signature.
    - `mean`: whether the score is the mean of the scores of rows.
    - `unanswerable`: whether a row may have no reference.
    """

    rows: Callable[[list[str], list[list[str]]], np.ndarray]
    total: Callable[[np.ndarray], float]
    describe: Callable[[str], str]
    mean: bool = False
    higher_is_better: bool = True
    unanswerable: bool = False

    def __call__(self, answers: Answers, references: References) -> float:
        """The score of all rows together."""
        return self.total(self.statistics(answers, references).sum(axis=0))

    def statistics(self, answers: Answers, references: References) -> np.ndarray:
        """What the score needs to know of each row, float64 (rows, k).

        Raises `DataError` where lengths differ, there are no rows, or a row has no reference.
        What depends on the whole set of references (the weights of NIST and CIDEr) is that of
        all rows given.
        """
        return self.rows(*checked(answers, references, self.unanswerable))

    def per_row(self, answers: Answers, references: References) -> list[float]:
        """The score of each row by itself; their mean is the score where `mean` says so."""
        return [self.total(row) for row in self.statistics(answers, references)]

    def signature(self, references: References | None = None) -> str:
        """Library, version and options; with the references, how many each row has."""
        counts = {len(row) for row in references} if references is not None else set()
        return self.describe(str(counts.pop()) if len(counts) == 1 else "var")


def mean_metric(
    rows: Callable[[list[str], list[list[str]]], list[float]],
    describe: Callable[[str], str],
    *,
    unanswerable: bool = False,
) -> TextMetric:
    """A metric that is the mean of its rows' scores; its statistics are (score, 1)."""

    def statistics(answers: list[str], references: list[list[str]]) -> np.ndarray:
        scores = rows(answers, references)
        return np.stack([np.asarray(scores, dtype=np.float64), np.ones(len(scores))], axis=1)

    def total(sums: np.ndarray) -> float:
        return float(sums[0] / sums[1])

    return TextMetric(statistics, total, describe, mean=True, unanswerable=unanswerable)


def checked(
    answers: Answers, references: References, unanswerable: bool = False
) -> tuple[list[str], list[list[str]]]:
    """The rows as lists, or a `DataError` that names the first row that cannot be scored."""
    if isinstance(answers, str) or isinstance(references, str):
        raise DataError(
            "Got one string where a list with one entry for each row was expected: put it in a "
            "list."
        )
    if len(answers) != len(references):
        raise DataError(
            f"Got {len(answers)} answers and references for {len(references)} rows; each row "
            "needs one answer and a list of references."
        )
    if not len(answers):
        raise DataError("Got no rows to score; a metric needs at least one.")
    for index, (answer, row) in enumerate(zip(answers, references)):
        if not isinstance(answer, str):
            raise DataError(
                f"Answer {index} is {type(answer).__name__}, not a string; decode it first."
            )
        if isinstance(row, str) or not all(isinstance(text, str) for text in row):
            raise DataError(
                f"The references of row {index} are not a list of strings; one reference is a "
                "list of one."
            )
        if not len(row) and not unanswerable:
            raise DataError(
                f"Row {index} has no reference; leave it out of the answers and the references."
            )
    return list(answers), [list(row) for row in references]


def need(module: str, library: str) -> Any:
    """A module of an optional library, or a `MissingExtraError` that says how to get it."""
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"This metric needs {library}, which is not installed: pip install 'lorakit[eval]'."
        ) from error


def version(library: str) -> str:
    """The version of an installed library, as signatures tell it."""
    return metadata.version(library)
