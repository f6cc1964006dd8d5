"""Interleaved, paired timings: every round runs each way once, and ratios are taken in a round.

On a CPU the time is that of the process, which a busy neighbour cannot stretch as it does wall
time; on a GPU it is the time between two events of its stream.
"""

from __future__ import annotations

import gc
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from lorakit.core.errors import PlanError

Step = Callable[[], object]


@dataclass(frozen=True)
class Timing:
    """Seconds of each round, and in wall time."""

    seconds: list[float]
    wall: list[float]

    @property
    def median(self) -> float:
        """The middle of the rounds."""
        return statistics.median(self.seconds)


@dataclass(frozen=True)
class Ratio:
    """The median of paired ratios, and the quartiles around it."""

    middle: float
    low: float
    high: float
    wall: float | None = None  # the middle by wall time

    def __str__(self) -> str:
        return f"{self.middle:.2f} ({self.low:.2f} to {self.high:.2f})"


def interleave(
    ways: Mapping[str, Step], rounds: int, *, warmup: int = 2, device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
    before: Mapping[str, Step] | None = None, after: Mapping[str, Step] | None = None,
) -> dict[str, Timing]:  # fmt: skip
    """Run every way `rounds` times, in turns, forwards and backwards, after `warmup` rounds.

    What a way has in `before` and `after` runs around each of its turns, untimed.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    wall: dict[str, list[float]] = {name: [] for name in ways}
    names = list(ways)
    collecting = gc.isenabled()
    gc.disable()  # one way's garbage is not to be another's time
    try:
        for turn in range(-warmup, rounds):
            for name in names if turn % 2 else reversed(names):
                (before or {}).get(name, _nothing)()
                took, passed = _time(ways[name], device)
                (after or {}).get(name, _nothing)()
                if turn >= 0:
                    seconds[name].append(took)
                    wall[name].append(passed)
            gc.collect(0)
            if progress is not None:
                progress(turn + warmup + 1, rounds + warmup)
    finally:
        if collecting:
            gc.enable()
    return {name: Timing(seconds[name], wall[name]) for name in names}


def _nothing() -> None:
    """What most ways have to be done around them."""


def _time(step: Step, device: str) -> tuple[float, float]:
    if device.startswith("cuda"):
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        began = time.perf_counter()
        first.record()
        step()
        last.record()
        torch.cuda.synchronize()
        return first.elapsed_time(last) / 1000, time.perf_counter() - began
    began, used = time.perf_counter(), time.process_time()
    step()
    return time.process_time() - used, time.perf_counter() - began


def ratio(way: Timing, floor: Timing) -> Ratio:
    """How many times as long as the floor the way takes, paired round by round."""
    pairs = _pairs(way.seconds, floor.seconds)
    walls = _pairs(way.wall, floor.wall)
    wall = statistics.median(walls) if walls else None
    if len(pairs) < 2:
        return Ratio(pairs[0], pairs[0], pairs[0], wall)
    low, middle, high = statistics.quantiles(pairs, n=4)
    return Ratio(middle, low, high, wall)


def _pairs(mine: Sequence[float], other: Sequence[float]) -> list[float]:
    return [one / two for one, two in zip(mine, other)]


def keep_to(cores: str) -> None:
    """Let this process run on some cores alone, such as "0,2-3"; `PlanError` where that fails."""
    try:
        ends = [part.split("-") for part in cores.split(",")]
        spans = [range(int(own[0]), int(own[-1]) + 1) for own in ends]
        os.sched_setaffinity(0, {core for span in spans for core in span})
    except (ValueError, OSError, AttributeError) as error:
        here = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else "not known"
        raise PlanError(
            f"--cores {cores}: {error}. Expected some of this machine's, as in 0,2-3: {here}."
        ) from error
