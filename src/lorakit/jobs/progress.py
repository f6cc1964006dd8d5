"""How far a run is, from the end of its events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lorakit.jobs.tail import last_step, number
from lorakit.train.folder import EVENTS
from lorakit.train.recipe import Recipe


@dataclass(frozen=True)
class Progress:
    """Steps that are done and that there are, and how the last one went; None is not known yet.

    Of a sweep the steps are those of all its runs, the loss is their mean.
    """

    step: int = 0
    steps: int | None = None
    seconds_left: float | None = None
    loss: float | None = None
    tokens_per_second: float | None = None


def progress_of(runs: Sequence[Path], recipe: Recipe, *, running: bool) -> Progress:
    """The progress of a recipe's runs. A run that goes on from a checkpoint falls back to it.

    What does not run has neither a pace nor time left.
    """
    events = [last_step(run / EVENTS) for run in runs]
    begun = [event for event in events if event is not None]
    counts = [number(event.get("steps")) for event in begun]
    known = [recipe.train.steps if count is None else int(count) for count in counts]
    known += [recipe.train.steps] * (len(runs) - len(begun))
    steps = None if None in known else sum(count for count in known if count is not None)
    left = [number(event.get("seconds_left")) for event in begun]
    # Runs side by side end together; of those that have not begun no one knows the pace.
    paced = running and len(begun) == len(runs)
    return Progress(
        step=sum(event["step"] for event in begun),
        steps=steps,
        seconds_left=max((v for v in left if v is not None), default=None) if paced else None,
        loss=_mean([number(event.get("loss")) for event in begun]),
        tokens_per_second=_sum([number(event.get("tokens_per_second")) for event in begun])
        if running
        else None,
    )


def _sum(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
