"""The curves of runs, read as they grow, and thinned to what a plot can show."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lorakit.jobs.history import events_since
from lorakit.jobs.tail import number
from lorakit.web.chart import chart

POINTS = 400
LOSS = "loss (nats per token)"  # on an axis


@dataclass
class Curve:
    """What a run has said so far: the loss by step, and each evaluation's values by step."""

    offset: int = 0
    last: int = -1  # step that has a loss
    loss: dict[int, float] = field(default_factory=dict)
    evaluations: dict[int, dict[str, float]] = field(default_factory=dict)

    def read(self, run: Path) -> bool:
        """Take in what is new; return whether there was anything."""
        grown = False
        while True:  # a long run's events come in parts
            events, self.offset = events_since(run, self.offset)
            for event in events:
                self._take(event)
            if not events:
                return grown
            grown = True

    def _take(self, event: dict[str, Any]) -> None:
        step = event["step"]
        loss = number(event.get("loss"))
        if loss is not None:
            if step <= self.last:  # it went on from a checkpoint: anew
                self._forget(step)
            self.loss[step], self.last = loss, step
        values = {name: number(value) for name, value in event.items() if name.startswith("eval_")}
        known = {name: value for name, value in values.items() if value is not None}
        self.evaluations.setdefault(step, {}).update(known)

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


def loss_chart(curves: Mapping[str, Curve]) -> str:
    """The loss of each run by its step; nothing where there is none yet."""
    lines = {name: thinned(curve.loss) for name, curve in curves.items()}
    return chart(lines, title="Loss", x="step", y=LOSS)


def held_chart(curves: Mapping[str, Curve]) -> str:
    """The same of the rows that are held out, at each evaluation."""
    lines = {
        name: [
            (step, values["eval_loss"])
            for step, values in sorted(curve.evaluations.items())
            if "eval_loss" in values
        ]
        for name, curve in curves.items()
    }
    return chart(lines, title="Loss on evaluation rows", x="step", y=LOSS)


def thinned(values: dict[int, float], most: int = POINTS) -> list[tuple[int, float]]:
    """At most so many points, the mean of each stretch at its last step."""
    steps = list(values)  # which come in order
    if len(steps) <= most:
        return [(step, values[step]) for step in steps]
    found = []
    for place in range(most):
        part = steps[place * len(steps) // most : (place + 1) * len(steps) // most]
        found.append((part[-1], sum(values[step] for step in part) / len(part)))
    return found
