"""The tab that trains: three choices, and everything else where it is asked for."""

from __future__ import annotations

import itertools
from typing import Any

import gradio as gr

from lorakit.core.errors import LorakitError
from lorakit.web.blocks import ON_LOAD
from lorakit.web.choices import GOALS, STORIES
from lorakit.web.fields import Field, blame, form_fields, group_of, matters
from lorakit.web.maker import Maker
from lorakit.web.page import Page, Step, any_of, wire
from lorakit.web.told import alert, caught, note, whole
from lorakit.web.uploads import ROWS, take_in
from lorakit.web.watch import Watch

PRESETS = {
    "Query and value": ["q", "v"], "Attention": "attention", "Feed-forward": "mlp",
    "All linear layers": "all-linear",
}  # fmt: skip


def tab(page: Page) -> None:
    """Lay the tab out and wire it."""
    Training(page)


class Training:
    """The tab's components, and what happens when they are used."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.choices = page.choices
        self.maker = Maker(page.choices, form_fields())
        self._choose()
        self._ask_for()
        self.watch = Watch(page)
        self.values = [self.base, self.rows, self.task, self.name, *self.own]
        self._wire()

    def _choose(self) -> None:
        bases, data = self.choices.lists()
        with gr.Row(elem_classes="three"):
            self.base = gr.Dropdown(
                bases, value=bases[0][1], label="1  Base", allow_custom_value=True, elem_id="base",
                info="The model that learns. It stays as it is; what is learned lies beside it.",
            )  # fmt: skip
            with gr.Column(min_width=240):
                self.rows = gr.Dropdown(
                    data, value=STORIES, label="2  Data", allow_custom_value=True, elem_id="data",
                    info="The rows it learns from.",
                )  # fmt: skip
                self.upload = gr.UploadButton("Upload rows", file_types=[*ROWS], size="sm")
            self.task = gr.Dropdown(
                [(GOALS["completion"], "completion")], value="completion", label="3  Goal",
                elem_id="task", info="What it is to do.",
            )  # fmt: skip
        with gr.Row(elem_classes="begin"):
            self.name = gr.Textbox(
                self.choices.free_name(STORIES), label="Name", elem_id="name",
                info="Of the run and of the adapter that comes out.",
            )  # fmt: skip
            self.start = gr.Button("Start training", variant="primary", elem_id="start")
        self.trouble = gr.HTML(elem_id="trouble")
        self.facts = gr.HTML(elem_id="facts")

    def _ask_for(self) -> None:
        with gr.Accordion("Look at the rows", open=False) as self.look:
            self.seen = gr.HTML()
        with gr.Accordion("Where it learns", open=False) as self.where:
            with gr.Row():
                self.preset = gr.Radio(list(PRESETS), label="Preset", elem_id="preset")
                self.rank = gr.Slider(1, 128, value=8, step=1, label="Rank of what is clicked")
            self.blocks = gr.HTML(js_on_load=ON_LOAD, elem_id="blocks")
        self.own: list[Any] = []
        # As they are for the data that come along: to set them when the page opens would make
        # every field tell of a change.
        begin = self.maker.data_chosen(self.choices.lists()[0][0][1], STORIES)[1]
        shown = {own.name: value for own, value in zip(self.maker.known, begin)}
        with gr.Accordion("All settings", open=False):
            for heading, some in itertools.groupby(
                self.maker.known, lambda one: group_of(one.name)
            ):
                gr.Markdown(f"#### {heading}")
                with gr.Row(elem_classes="fields"):
                    self.own += [component(one, shown[one.name]) for one in some]
        with gr.Accordion("Recipe and command", open=False):
            self.text = gr.Code(language="yaml", label="The recipe as a file", interactive=True)
            self.use = gr.Button("Use this recipe in the form", size="sm")
            self.command = gr.Code(language="shell", label="The same on the command line", lines=1)

    def _wire(self) -> None:
        values, fields = self.values, [self.trouble, *self.own]
        anew = Step(self.refreshed, values, [self.text, self.command, *fields])
        facts = Step(self.maker.estimated, values, self.facts)
        rows = Step(self.maker.rows, values, self.seen)
        blocks = Step(self.maker.blocks, values, self.blocks)
        after = (anew, facts, rows, blocks)
        # Change, and not input, which Gradio does not give for what is pasted.
        wire(any_of(self.name.blur, *(one.change for one in self.own)), anew, facts, latest=True)
        wire(self.look.expand, rows)
        wire(self.where.expand, blocks)
        picked = Step(self.picked, [self.base, self.rows], [self.task, self.name, *fields])
        wire(any_of(self.base.input, self.rows.change), picked, *after, latest=True)
        wire(self.task.input, anew, rows, latest=True)
        clicked = Step(self.clicked, [self.rank, *values], fields)
        wire(self.blocks.click, clicked, blocks, anew, facts)
        chosen = Step(self.preset_chosen, [self.preset, self.rank, *values], fields)
        wire(self.preset.input, chosen, blocks, anew, facts)
        typed = Step(self.typed, [self.text, self.name], [self.trouble, *values])
        wire(self.use.click, typed, facts, rows, blocks)
        history = self.watch.history
        again = Step(self.again, [history.chosen, self.rows], [self.trouble, *values])
        wire(history.reuse.click, again, anew, facts, rows, blocks)
        wire(self.upload.upload, Step(self.uploaded, self.upload, [self.rows, self.trouble]))
        outs = [self.trouble, self.facts, self.name, self.watch.looked_at]
        begun = Step(self.begun, values, outs)
        wire(self.start.click, begun, self.watch.look)
        opened = Step(self.opened, None, [self.base, self.rows, self.name])
        self.page.on_load(opened, anew)
        self.page.on_tab("train", facts)

    def refreshed(self, *given: Any) -> tuple[Any, ...]:
        """The recipe, the command, what is wrong, and which fields matter, or are wrong."""
        said, line, wrong = self.maker.texts(*given)
        shown = [_visible(one, given, self.maker.known, wrong) for one in self.maker.known]
        kept = (gr.skip(), gr.skip()) if wrong else (said, line)
        return *kept, alert(wrong) if wrong else "", *shown

    def picked(self, base: str, rows: str) -> tuple[Any, ...]:
        """The goals and the fields for another base or other data."""
        fitting, shown, wrong = self.maker.data_chosen(base, rows)
        goals = [(GOALS[one], one) for one in fitting]
        task = gr.update(choices=goals, value=fitting[0]) if fitting else gr.skip()
        return task, self.choices.free_name(rows), wrong, *shown

    def clicked(self, event: gr.EventData, rank: float | None, *given: Any) -> tuple[Any, ...]:
        """The fields after a click into the table of layers."""
        return self._fields(
            lambda: self.maker.clicked(list(event.cells), whole(rank, "the rank"), *given)
        )

    def preset_chosen(self, preset: str | None, rank: float | None, *given: Any) -> tuple[Any, ...]:
        """The fields for a preset's layers."""

        def work() -> list[Any]:
            if preset not in PRESETS:
                raise LorakitError("No preset is chosen. Choose one.")
            fields = {"lora.targets": PRESETS[preset], "lora.rank": whole(rank, "the rank")}
            return self.maker.with_fields(fields, *given)

        return self._fields(work)

    def _fields(self, work: Any) -> tuple[Any, ...]:
        with caught() as wrong:
            return "", *work()
        return wrong.html, *(gr.skip() for _ in self.own)

    def typed(self, said: str, name: str) -> tuple[Any, ...]:
        """The form for a recipe that was typed."""
        with caught() as wrong:
            return "", *self.maker.from_yaml(said, name)
        return wrong.html, *(gr.skip() for _ in self.values)

    def again(self, chosen: list[str] | None, rows: str) -> tuple[Any, ...]:
        """The form for the recipe of a run that was chosen among all."""
        with caught() as wrong:
            said = self.watch.history.recipe(chosen)
            if not said:
                raise LorakitError("No run is chosen. Choose one under Compare.")
            return "", *self.maker.from_yaml(said, self.choices.free_name(rows))
        return wrong.html, *(gr.skip() for _ in self.values)

    def uploaded(self, file: str | None) -> tuple[Any, Any]:
        """The list of data with the file that came."""
        with caught() as wrong:
            place = take_in(self.page.place, file)
            return gr.update(choices=self.choices.lists()[1], value=str(place)), ""
        return gr.skip(), wrong.html

    def begun(self, *given: Any) -> tuple[Any, ...]:
        """Put the recipe into the queue, and let it begin."""
        with caught() as wrong:
            job = self.page.queue.add(self.maker.recipe(*given), title=given[3])
            self.page.queue.start()
            told = note(f"{job.title} is in the queue.", good=True)
            return told, gr.skip(), self.choices.free_name(given[1]), job.id
        return wrong.html, "", gr.skip(), gr.skip()  # said once

    def opened(self) -> tuple[Any, ...]:
        """The lists as they are now, and a name that is free."""
        bases, data = self.choices.lists()
        return gr.update(choices=bases), gr.update(choices=data), self.choices.free_name(STORIES)


def component(own: Field, shown: Any) -> Any:
    """The component of a field: its label and help are the schema's."""
    name = own.name.replace(".", "-")
    if own.is_switch:
        return gr.Checkbox(shown, label=own.label, info=own.about, elem_id=name)
    if own.choices:
        words = list(own.choices)
        return gr.Dropdown(words, value=shown, label=own.label, info=own.about, elem_id=name)
    return gr.Textbox(
        shown,
        placeholder=own.placeholder,
        max_lines=4,
        label=own.label,
        info=own.about,
        elem_id=name,
    )


def _visible(own: Field, given: tuple[Any, ...], known: list[Field], wrong: str) -> Any:
    task = given[2] or "completion"
    method = next(value for one, value in zip(known, given[4:]) if one.name == "method")
    blamed = blame(own.name, wrong)
    return gr.update(
        visible=matters(own.name, task=task, method=method or "lora"),
        info=f"Wrong: {blamed}" if blamed else own.about,
        elem_classes=["wrong"] if blamed else [],
    )
