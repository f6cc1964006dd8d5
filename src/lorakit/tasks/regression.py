"""Regression: a score for one text or a pair."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from lorakit.metrics.regression import mse, pearson, spearman
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
        scores: Any = statistics[:, 0]
        targets: Any = labels
        metrics = {"mse": mse, "pearson": pearson, "spearman": spearman}
        return {name: metric(scores, targets) for name, metric in metrics.items()}


def _score(row: Row, name: str) -> float:
    value = value_of(row, name, "the score")
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise row.error(f"{name} is {repr(value)[:100]}; expected a number.")
    return number
