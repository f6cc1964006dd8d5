"""Accuracy, F1, Matthews correlation and the report of classes, all from the confusion matrix.

Every figure here is a function of counts, so that a bootstrap over rows can add counts. A quotient
without a denominator is 0.0: the precision of a class that nobody answered, the recall of one that
no row has, the F1 of one with neither, and the correlation where either side is of one class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from lorakit.core.errors import DataError, did_you_mean

Average = Literal["macro", "micro", "weighted"]
Label = str | int
Labels = Sequence[Label] | np.ndarray


@dataclass(frozen=True)
class Confusion:
    """How often each class (row) got each answer (column): integers (classes, classes)."""

    classes: tuple[Label, ...]
    counts: np.ndarray

    @property
    def normalised(self) -> np.ndarray:
        """The share of each class's rows, (classes, classes); zeros for a class without rows."""
        return _divided(self.counts, self.support[:, None])

    @property
    def support(self) -> np.ndarray:
        """The number of rows of each class."""
        return self.counts.sum(axis=1)

    @property
    def precision(self) -> np.ndarray:
        """Of the answers with each class, the share that was right."""
        return _divided(np.diagonal(self.counts), self.counts.sum(axis=0))

    @property
    def recall(self) -> np.ndarray:
        """Of the rows of each class, the share that was found."""
        return _divided(np.diagonal(self.counts), self.support)

    @property
    def f1(self) -> np.ndarray:
        """The harmonic mean of precision and recall for each class."""
        return _divided(2 * np.diagonal(self.counts), self._either)

    @property
    def accuracy(self) -> float:
        """The share of rows with the right answer."""
        return float(np.trace(self.counts) / self.counts.sum())

    @property
    def matthews(self) -> float:
        """Matthews correlation, for any number of classes (Gorodkin 2004, R_K), from -1 to 1."""
        # Python's integers do not overflow.
        answered = [int(n) for n in self.counts.sum(axis=0)]
        support = [int(n) for n in self.support]
        rows, right = sum(support), int(np.trace(self.counts))
        spread = rows**2 - sum(n * n for n in answered), rows**2 - sum(n * n for n in support)
        if not all(spread):
            return 0.0
        agreement = right * rows - sum(a * s for a, s in zip(answered, support))
        return agreement / (spread[0] ** 0.5 * spread[1] ** 0.5)

    def mean_f1(self, average: Average) -> float:
        """The mean F1 over the classes that occur in answers or labels.

        "macro": each class counts once; "weighted": by its rows; "micro": all decisions together,
        which is the accuracy.
        """
        if average == "micro":
            return self.accuracy
        if average == "weighted":
            return float((self.f1 * self.support).sum() / self.counts.sum())
        if average == "macro":
            return float(self.f1[self._either > 0].mean())
        raise DataError(f"Got average={average!r}; there are 'macro', 'micro' and 'weighted'.")

    def as_dict(self) -> dict[str, Any]:
        """The matrix as JSON: classes, counts and shares, a list for each class of the labels."""
        return {
            "classes": list(self.classes),
            "counts": self.counts.tolist(),
            "normalised": self.normalised.tolist(),
        }

    def __str__(self) -> str:
        names = [str(name) for name in self.classes]
        cells = [[str(n) for n in row] for row in self.counts.tolist()]
        return _table(["label \\ answer", *names], [[n, *row] for n, row in zip(names, cells)])

    @property
    def _either(self) -> np.ndarray:
        return self.counts.sum(axis=0) + self.support


@dataclass(frozen=True)
class Report:
    """Precision, recall, F1 and rows of each class, and the figures over all of them."""

    confusion: Confusion

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON."""
        matrix = self.confusion
        columns = (matrix.precision, matrix.recall, matrix.f1)
        return {
            "classes": {
                str(name): {
                    **{k: float(c[at]) for k, c in zip(("precision", "recall", "f1"), columns)},
                    "support": int(matrix.support[at]),
                }
                for at, name in enumerate(matrix.classes)
            },
            "accuracy": matrix.accuracy,
            "f1_macro": matrix.mean_f1("macro"),
            "f1_weighted": matrix.mean_f1("weighted"),
            "matthews": matrix.matthews,
            "rows": int(matrix.counts.sum()),
        }

    def __str__(self) -> str:
        found = self.as_dict()
        lines = [
            [name, *(f"{row[k]:.3f}" for k in ("precision", "recall", "f1")), str(row["support"])]
            for name, row in found["classes"].items()
        ]
        table = _table(["class", "precision", "recall", "f1", "support"], lines)
        over = ("accuracy", "f1_macro", "f1_weighted", "matthews")
        return table + "\n" + ", ".join(f"{key} {found[key]:.3f}" for key in over)


def confusion(
    answers: Labels,
    labels: Labels,
    classes: Sequence[Label] | None = None,
) -> Confusion:
    """Count answers against labels; `classes` names them in order, all that occur by default.

    Raises `DataError` for lengths that differ, no rows, and an answer or label outside `classes`.
    """
    answers, labels = _plain(answers), _plain(labels)
    if len(answers) != len(labels):
        raise DataError(
            f"Got {len(answers)} answers for {len(labels)} labels; each row needs one of each."
        )
    if not answers:
        raise DataError("Got no rows to score; a metric needs at least one.")
    if len({isinstance(value, str) for value in (*answers, *labels)}) > 1:
        raise DataError(
            f"Got both names and numbers as classes, such as {answers[0]!r} for {labels[0]!r}; "
            "give answers and labels in one form."
        )
    if classes is None:
        classes = sorted({*answers, *labels})
    index = {name: at for at, name in enumerate(classes)}
    if len(index) != len(classes):
        raise DataError(f"The classes {list(classes)} name one twice; name each once.")
    counts = np.zeros((len(index), len(index)), dtype=np.int64)
    for answer, label in zip(answers, labels):
        for name in (label, answer):
            if name not in index:
                raise DataError(
                    f"{name!r} is none of the classes {list(classes)}; name it there too."
                )
        counts[index[label], index[answer]] += 1
    return Confusion(tuple(classes), counts)


def accuracy(answers: Labels, labels: Labels) -> float:
    """The share of rows with the right answer, from 0 to 1."""
    return confusion(answers, labels).accuracy


def f1(answers: Labels, labels: Labels, average: Average = "macro") -> float:
    """The mean F1 of the classes that occur in answers or labels, from 0 to 1."""
    return confusion(answers, labels).mean_f1(average)


def f1_binary(answers: Labels, labels: Labels, *, positive: Label) -> float:
    """The F1 of one class, as of MRPC and QQP; 0.0 where it is in neither answers nor labels.

    Raises `DataError` where there are two other classes already, so that it must be misspelt.
    """
    matrix = confusion(answers, labels)
    if positive in matrix.classes:
        return float(matrix.f1[matrix.classes.index(positive)])
    if len(matrix.classes) > 1:
        hint = did_you_mean(str(positive), map(str, matrix.classes))
        raise DataError(
            f"The positive class {positive!r} is none of those that occur, "
            f"{list(matrix.classes)}.{hint} Name one of them."
        )
    return 0.0


def matthews(answers: Labels, labels: Labels) -> float:
    """Matthews correlation, as of CoLA, from -1 to 1; 0.0 where either side is of one class."""
    return confusion(answers, labels).matthews


def commitment_bank(answers: Labels, labels: Labels) -> dict[str, float]:
    """SuperGLUE's figures for CB (Wang et al. 2019): accuracy, macro F1, and their mean."""
    matrix = confusion(answers, labels)
    macro = matrix.mean_f1("macro")
    return {
        "accuracy": matrix.accuracy, "f1_macro": macro, "score": (matrix.accuracy + macro) / 2,
    }  # fmt: skip


def report(
    answers: Labels,
    labels: Labels,
    classes: Sequence[Label] | None = None,
) -> Report:
    """What a classifier gets right, class by class: print it, or take `as_dict()` as JSON."""
    return Report(confusion(answers, labels, classes))


def _plain(values: Labels) -> list[Any]:
    """A list of Python values: numpy's integers are not JSON, and print otherwise."""
    return [value.item() if isinstance(value, np.generic) else value for value in values]


def _divided(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    above = np.asarray(above, dtype=np.float64)
    return np.divide(above, below, out=np.zeros_like(above), where=below != 0)


def _table(head: list[str], rows: list[list[str]]) -> str:
    """Columns of equal width: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(head, *rows)]
    lines = []
    for row in [head, *rows]:
        cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:])]
        lines.append("  ".join([row[0].ljust(widths[0]), *cells]))
    return "\n".join(lines)
