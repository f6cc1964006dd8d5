"""What all tabs share: the place, the queue, the curves, and what happens when the page opens."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import gradio as gr

from lorakit.jobs.queue import QUEUE, Queue
from lorakit.library.index import Library
from lorakit.web.choices import Choices, Pairs
from lorakit.web.curves import Curves
from lorakit.web.place import Place
from lorakit.web.voices import Voices


class Step(NamedTuple):
    """A handler and the components that it reads and sets; with `js` the browser handles it."""

    handler: Callable[..., Any] | None
    inputs: Any = None
    outputs: Any = None
    js: str | None = None


def wire(event: Callable[..., Any], *steps: Step, latest: bool = False, queue: bool = True) -> Any:
    """Run the steps one after another when the event happens.

    With `latest`, of events that come while one is handled only the last is handled after it.
    Handlers of the page are no part of its API, and show what they do by what they change.
    """
    first, *others = steps
    dependency = event(
        first.handler, first.inputs, first.outputs, js=first.js, queue=queue,
        show_progress="hidden", api_visibility="private",
        trigger_mode="always_last" if latest else "once",
    )  # fmt: skip
    for step in others:
        dependency = dependency.then(
            step.handler, step.inputs, step.outputs, js=step.js, show_progress="hidden",
            api_visibility="private",
        )  # fmt: skip
    return dependency


def any_of(*events: Callable[..., Any]) -> Callable[..., Any]:
    """Several events as one."""
    return functools.partial(gr.on, list(events))


def listed(choices: Any, value: Any, before: Any) -> Any:
    """New choices of a list. Its value is set only where it is another than before.

    Else what someone chose while this was found out would be lost.
    """
    return (
        gr.update(choices=choices) if value == before else gr.update(choices=choices, value=value)
    )


def proposal(field: gr.Textbox) -> tuple[gr.Textbox, Step]:
    """A component for what a text could begin with, and the step that takes it where it is empty.

    In the browser, as what someone types while a handler works must not be lost.
    """
    proposed = gr.Textbox(visible=False)
    return proposed, Step(None, [proposed, field], field, js="(own, there) => there || own")


@dataclass
class Page:
    """One page for all who open it; what a visitor has chosen is in components alone."""

    place: Place
    blocks: gr.Blocks
    curves: Curves = field(default_factory=Curves)
    tabs: dict[str, gr.Tab] = field(default_factory=dict)
    choices: Choices = field(init=False)
    voices: Voices = field(init=False)
    library: Library = field(init=False)

    def __post_init__(self) -> None:
        self.choices = Choices(self.place)
        self.voices = Voices(self.choices.base, self.place.inside)
        self.library = Library(self.place.roots)

    @property
    def queue(self) -> Queue:
        """The queue of the runs that are started here."""
        return Queue(self.place.runs / QUEUE)

    def adapters(self, *, text: bool = True) -> Pairs:
        """Every adapter that can be read, the newest first, as (what is shown, path).

        With `text` without those of image models; those whose base is at hand come before others.
        """
        self.library.refresh()
        entries = [
            own for own in self.library.search(order="newest")
            if not own.problem and not (text and own.task == "image")
        ]  # fmt: skip
        names = Counter(own.shown for own in entries)
        entries.sort(key=lambda own: not self.choices.has(own.base))
        return [
            (
                own.shown if names[own.shown] == 1 else self.place.short(own.run or own.path),
                own.path,
            )
            for own in entries
        ]

    def on_tab(self, name: str, *steps: Step) -> Any:
        """Run the steps whenever someone turns to a tab."""
        return wire(self.tabs[name].select, *steps)

    def on_load(self, *steps: Step) -> Any:
        """Run the steps whenever someone opens the page or loads it again."""
        return wire(self.blocks.load, *steps)
