"""What a model makes of rows whose answers are given: each row's statistics, and the metrics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from lorakit.core.errors import DataError
from lorakit.eval.batches import Names, scores
from lorakit.eval.interval import RESAMPLES, Estimate, estimate
from lorakit.tasks.base import Features, Task


@dataclass(frozen=True)
class Scored:
    """Rows that a model was asked: their statistics (rows, k), their labels (rows,), metrics."""

    task: Task
    statistics: np.ndarray
    labels: np.ndarray
    metrics: dict[str, float]

    def estimates(self, resamples: int = RESAMPLES) -> dict[str, Estimate]:
        """The metrics with their intervals over rows."""
        return estimate(
            len(self.statistics),
            lambda places: self.task.metrics(self.statistics[places], self.labels[places]),
            resamples=resamples,
        )


def evaluate_rows(
    model: nn.Module, task: Task, rows: Sequence[Features], *, padding: int, batch_size: int = 32,
    adapters: Names = None, done: Callable[[int], object] | None = None,
) -> Scored:  # fmt: skip
    """The task's metrics over rows as token ids, as `task.encode` makes them.

    `adapters` act, none of them is the base, None leaves those that are active. The results stand
    in the order of the rows whatever the batches. `done` is told how many rows each batch had.
    """
    if not rows:
        raise DataError("There are no rows to evaluate on. Give at least one.")
    found: np.ndarray | None = None
    for places, batch, logits in scores(
        model, rows, padding=padding, batch_size=batch_size, adapters=adapters
    ):
        own = task.statistics(logits, batch["labels"]).float().cpu().numpy()
        if found is None:
            found = np.zeros((len(rows), own.shape[1]), own.dtype)
        found[places] = own
        if done is not None:
            done(len(places))
    assert found is not None
    labels = np.array([_label(row) for row in rows])
    return Scored(task, found, labels, task.metrics(found, labels))


def _label(row: Features) -> float | int:
    """A class or a score; rows of tokens have theirs in the statistics already."""
    return 0 if isinstance(row["labels"], list) else row["labels"]
