"""The curves of runs, read as they grow, and thinned to what a plot can show."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lorakit.jobs.history import events_since

if TYPE_CHECKING:
    import pandas as pd

POINTS = 400
LOSSES = ("eval_loss",)


@dataclass
class Curve:
    """What a run has said so far: the loss by step, and each evaluation's values by step."""

    offset: int = 0
    loss: dict[int, float] = field(default_factory=dict)
    evaluations: dict[int, dict[str, float]] = field(default_factory=dict)

    def read(self, run: Path) -> bool:
        """Take in what is new; return whether there was anything."""
        events, self.offset = events_since(run, self.offset)
        for event in events:
            step = event.get("step")
            if not isinstance(step, int):
                continue
            if "loss" in event:
                if step <= max(self.loss, default=-1):  # it went on from a checkpoint: anew
                    self._forget(step)
                self.loss[step] = float(event["loss"])
            self.evaluations.setdefault(step, {}).update(
                (name, float(value)) for name, value in event.items()
                if name.startswith("eval_") and isinstance(value, (int, float))
            )  # fmt: skip
        return bool(events)

    def _forget(self, step: int) -> None:
        for known in (self.loss, self.evaluations):
            for late in [own for own in known if own >= step]:
                del known[late]


class Curves:
    """Curves of many runs, for every visitor of the page alike."""

    def __init__(self) -> None:
        self._known: dict[Path, Curve] = {}
        self._lock = threading.Lock()

    def of(self, run: Path) -> Curve:
        """The curve of a run as it is now."""
        with self._lock:
            curve = self._known.setdefault(run, Curve())
            curve.read(run)
            return curve


def loss_table(curves: dict[str, Curve]) -> pd.DataFrame | None:
    """Columns step, loss and run; None where there is nothing to draw yet.

    A plot that was once given an empty table takes its columns for words, and never draws a line.
    """
    rows = [
        (step, value, name) for name, curve in curves.items() for step, value in thinned(curve.loss)
    ]
    return _table(rows, ("step", "loss", "run"))


def evaluation_table(curves: dict[str, Curve], metric: str = "eval_loss") -> pd.DataFrame | None:
    """Columns step, value and run of one metric of the evaluations."""
    rows = [
        (step, values[metric], name)
        for name, curve in curves.items()
        for step, values in sorted(curve.evaluations.items())
        if metric in values
    ]
    return _table(rows, ("step", "value", "run"))


def thinned(values: dict[int, float], most: int = POINTS) -> list[tuple[int, float]]:
    """At most so many points, the mean of each stretch at its last step."""
    steps = sorted(values)
    if len(steps) <= most:
        return [(step, values[step]) for step in steps]
    found = []
    for place in range(most):
        part = steps[place * len(steps) // most : (place + 1) * len(steps) // most]
        found.append((part[-1], sum(values[step] for step in part) / len(part)))
    return found


def _table(rows: list[tuple], columns: tuple[str, ...]) -> pd.DataFrame | None:
    if not rows:
        return None
    import pandas as pd

    return pd.DataFrame(rows, columns=list(columns))
