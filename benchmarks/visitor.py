"""A visitor of the page without a browser: events run their handlers, and what these say is kept.

So that what a handler costs is measured apart from how its values travel.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr


@dataclass(frozen=True)
class Cost:
    """Milliseconds: medians of processor time and of time that passed."""

    cpu: float
    wall: float


def cost(act: Callable[[], Any], rounds: int, before: Callable[[], Any] = lambda: None) -> Cost:
    """What a call costs when it is not the first; `before` is done each time, and not counted."""
    act()
    cpu, wall = [], []
    for _ in range(rounds):
        before()
        begun, clock = time.process_time(), time.perf_counter()
        act()
        cpu.append(time.process_time() - begun)
        wall.append(time.perf_counter() - clock)
    return Cost(1000 * statistics.median(cpu), 1000 * statistics.median(wall))


class Visitor:
    """The values of one visitor's components."""

    def __init__(self, blocks: gr.Blocks) -> None:
        self.blocks = blocks
        self.values = {id: getattr(own, "value", None) for id, own in blocks.blocks.items()}

    def steps(self, event: str, block: int | None = None) -> Iterator[Any]:
        """The handlers of an event, each with those that are run after it."""
        for own in list(self.blocks.fns.values()):
            if any(name == event and block in (None, id) for id, name in own.targets):
                yield from self._chain(own)

    def do(self, step: Any) -> None:
        """Run a handler and take in what it says."""
        said = step.fn(*[self._given(own) for own in step.inputs])
        if isinstance(said, Iterator):
            *_, said = said
        for place, value in zip(step.outputs, said if len(step.outputs) > 1 else [said]):
            if not isinstance(value, dict) or value.get("__type__") != "update":
                self.values[place._id] = value
            elif "value" in value:
                self.values[place._id] = value["value"]

    def _given(self, component: Any) -> Any:
        value = self.values[component._id]
        return "" if value is None and isinstance(component, gr.Textbox) else value

    def _chain(self, first: Any) -> Iterator[Any]:
        if callable(first.fn):
            yield first
        for own in list(self.blocks.fns.values()):
            if own.trigger_after == first._id:
                yield from self._chain(own)


def named(step: Any) -> str:
    """What a handler is called where it is written."""
    return getattr(step.fn, "__qualname__", step.name)
