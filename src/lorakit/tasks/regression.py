"""Regression: a score for one text or a pair."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from scipy import stats
from torch import Tensor

from lorakit.tasks import shapes
from lorakit.tasks.base import Features
from lorakit.tasks.classification import encode_texts, read_texts
from lorakit.tasks.options import DataOptions
from lorakit.tasks.rows import Row
from lorakit.tasks.templates import value_of


@dataclass
class RegressionTask:
    """Rows of text and number for a model with a head of one output."""

    options: DataOptions
    cut: int = 0
    best: tuple[str, bool] = ("pearson", True)

    name: ClassVar[str] = "regression"
    kind: ClassVar[str] = "classes"

    def read(self, rows: Sequence[Row], *, training: bool) -> list[tuple[str, str | None, float]]:
        name = shapes.field(self.options.label, shapes.SCORES, rows[0], "the score")
        scores = [_score(row, name) for row in rows]
        texts = read_texts(self.options, rows)
        return [(*pair, score) for pair, score in zip(texts, scores)]

    def labels(self) -> list[str] | None:
        return []

    def encode(self, examples: Sequence[Any], tokenizer: Any, longest: int) -> list[Features]:
        found = []
        for text, pair, score in examples:
            features, cut = encode_texts(text, pair, tokenizer, longest)
            self.cut += cut
            found.append({**features, "labels": score})
        return found

    def statistics(self, logits: Tensor, labels: Tensor) -> Tensor:
        return logits.float().reshape(-1, 1)

    def metrics(self, statistics: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        scores = statistics[:, 0].astype(np.float64)
        found = {"mse": float(np.mean((scores - labels) ** 2))}
        # A correlation needs two values that differ on both sides.
        if len(scores) > 1 and np.ptp(scores) > 0 and np.ptp(labels) > 0:
            found["pearson"] = _correlation(scores, labels)
            found["spearman"] = _correlation(stats.rankdata(scores), stats.rankdata(labels))
        else:
            found["pearson"] = found["spearman"] = 0.0
        return found


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.corrcoef(one, other)[0, 1])


def _score(row: Row, name: str) -> float:
    value = value_of(row, name, "the score")
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise row.error(f"{name} is {value!r}; expected a number.")
    return number
