"""The tab that looks through: cards, search, one adapter in detail, and what to do with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from lorakit.analysis.inspect import Inspection, inspect
from lorakit.analysis.spectra import singular_values
from lorakit.formats import FORMATS
from lorakit.library.entry import Entry
from lorakit.web.cards import ON_LOAD, detail, maps, shelf, spectra
from lorakit.web.curves import loss_chart
from lorakit.web.doing import AS_IT_IS, Doing
from lorakit.web.page import Page, Step, any_of, wire
from lorakit.web.told import caught

SHOWN = 60  # cards at once
ANY = "any"
ORDERS = [("Newest first", "newest"), ("By name", "name"), ("By rank", "rank"), ("By size", "size")]
FILTERS = ("base", "task", "method", "format", "tag")
FILES = [".safetensors", ".zip", ".gguf", ".json", ".md", ".bin", ".pt", ".pth", ".png", ".jpg"]
TO_DETAIL = """() => document.querySelector('#detail')?.scrollIntoView({block: 'start'})"""


def tab(page: Page) -> None:
    """Lay the tab out and wire it."""
    Shelf(page)


class Shelf:
    """The tab's components and handlers."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.doing = Doing(page)
        self._search()
        self.entry = gr.State("")
        self.gone = gr.State("")
        with gr.Column(visible=False, elem_id="detail") as self.panel:
            self._detail()
        self.cards = gr.HTML(js_on_load=ON_LOAD, elem_id="cards")
        with gr.Accordion("Import", open=False):
            self._import()
        self._wire()

    def _search(self) -> None:
        with gr.Row():
            self.text = gr.Textbox(
                label="Search", elem_id="search", scale=3, min_width=260,
                info="Words of names, tags, trigger words, bases and descriptions.",
            )  # fmt: skip
            self.order = gr.Dropdown(ORDERS, value="newest", label="Order", scale=1)
        with gr.Accordion("Filters", open=False), gr.Row(elem_classes="fields"):
            self.filters = [
                gr.Dropdown([ANY], value=ANY, label=name, elem_id=f"filter-{name}")
                for name in FILTERS
            ]
        self.told = gr.HTML(elem_id="library-told")
        with gr.Row():
            self.undo = gr.Button("Undo", visible=False, size="sm", elem_id="undo")

    def _detail(self) -> None:
        self.close = gr.Button("Close", size="sm", elem_id="close")
        self.facts = gr.HTML(elem_id="facts-of")
        with gr.Tabs():
            with gr.Tab("Where it changes"):
                self.maps = gr.HTML()
            with gr.Tab("Spectra"):
                self.spectra = gr.HTML()
            with gr.Tab("Training"):
                self.curve = gr.HTML()
                self.recipe = gr.Code(language="yaml", label="Recipe", interactive=False)
            with gr.Tab("Health"):
                self.examine = gr.Button("Examine", size="sm", elem_id="doctor")
                self.health = gr.HTML(elem_id="health")
            with gr.Tab("Change"):
                self._change()
            with gr.Tab("Convert and share"):
                self._share()

    def _change(self) -> None:
        with gr.Row(elem_classes="begin"):
            self.new_name = gr.Textbox(label="Name", elem_id="new-name")
            self.do_rename = gr.Button("Rename", elem_id="rename")
        with gr.Row(elem_classes="fields"):
            self.title = gr.Textbox(label="Title", info="what cards show")
            self.tags = gr.Textbox(label="Tags", info="with commas between them", elem_id="tags")
            self.triggers = gr.Textbox(label="Trigger words", info="with commas between them")
            self.description = gr.Textbox(label="Description", lines=2)
        with gr.Row():
            self.do_edit = gr.Button("Save these", elem_id="save")
            self.do_card = gr.Button("Write a model card", elem_id="card")
            self.do_delete = gr.Button("Delete", variant="stop", elem_id="delete")

    def _share(self) -> None:
        with gr.Row(elem_classes="begin"):
            self.form = gr.Dropdown(
                [AS_IT_IS, *(form.name for form in FORMATS)], value=AS_IT_IS, label="Format",
                elem_id="format",
            )  # fmt: skip
            self.make = gr.Button("Make a file", elem_id="make")
            self.do_copy = gr.Button("Copy into the page's folder", elem_id="copy")
        self.proof = gr.HTML(elem_id="proof")
        self.file = gr.File(label="Download", visible=False, interactive=False, elem_id="file")
        with gr.Row(elem_classes="begin"):
            self.repo = gr.Textbox(label="Repository of the hub", placeholder="owner/name")
            self.do_push = gr.Button("Push", elem_id="push")

    def _import(self) -> None:
        with gr.Row(elem_classes="begin"):
            self.brought = gr.File(
                label="A file, a zip, or all files of a folder", file_types=FILES,
                file_count="multiple", elem_id="brought", scale=2, height=140,
            )  # fmt: skip
            self.bring_name = gr.Textbox(label="Name", info="else the file's", elem_id="bring-name")
            self.do_bring = gr.Button("Import", elem_id="bring")
        with gr.Row(elem_classes="begin"):
            self.pull_repo = gr.Textbox(
                label="Or a repository of the hub", placeholder="owner/name"
            )
            self.do_pull = gr.Button("Pull", elem_id="pull")
        self.bring_told = gr.HTML(elem_id="bring-told")

    def _wire(self) -> None:
        asked = [self.text, self.order, *self.filters]
        searched = Step(self.searched, asked, self.cards)
        looked = Step(self.looked, asked, [self.cards, *self.filters])
        wire(any_of(self.text.change, self.order.change), searched, latest=True)
        wire(any_of(*(own.input for own in self.filters)), searched, latest=True)
        fields = [self.new_name, self.title, self.tags, self.triggers, self.description]
        outs = [
            self.entry, self.panel, self.facts, self.maps, self.spectra, self.curve, self.recipe,
            self.health, self.proof, self.file, *fields,
        ]  # fmt: skip
        opened = Step(self.opened, self.entry, outs)
        wire(self.cards.click, Step(self.clicked, None, self.entry), opened).then(
            None, js=TO_DETAIL, api_visibility="private"
        )
        wire(self.close.click, Step(lambda: ("", gr.update(visible=False)), None, outs[:2]))
        told, came = [self.told, self.entry], [self.bring_told, self.entry]
        for button, act, inputs in (
            (self.do_rename, self.doing.renamed, [self.entry, self.new_name]),
            (self.do_edit, self.doing.edited, [self.entry, *fields[1:]]),
            (self.do_card, self.doing.carded, [self.entry]),
            (self.do_copy, self.doing.copied, [self.entry]),
            (self.do_push, self.doing.pushed, [self.entry, self.repo]),
        ):
            wire(button.click, Step(act, inputs, told), looked, opened)
        went = Step(self.doing.deleted, self.entry, [*told, self.undo, self.gone])
        wire(self.do_delete.click, went, looked, opened)
        wire(
            self.undo.click, Step(self.doing.undone, self.gone, [*told, self.undo]), looked, opened
        )
        wire(
            self.do_bring.click,
            Step(self.doing.took, [self.brought, self.bring_name], came),
            looked,
            opened,
        )
        wire(self.do_pull.click, Step(self.doing.pulled, self.pull_repo, came), looked, opened)
        wire(self.examine.click, Step(self.doing.examined, self.entry, self.health))
        wire(
            self.make.click, Step(self.doing.made, [self.entry, self.form], [self.proof, self.file])
        )
        self.page.on_tab("library", looked)  # which the page turns to when it opens

    def searched(self, text: str, order: Any, *filters: str) -> str:
        """The cards of a search."""
        names = dict(zip(FILTERS, (None if own in (ANY, None) else own for own in filters)))
        tag = names.pop("tag")
        with caught() as wrong:
            found = self.page.library.search(
                text or "", order=order, tags=[tag] if tag else [], limit=SHOWN + 1, **names
            )
            more = 0
            if len(found) > SHOWN:
                more = len(self.page.library.search(text or "", tags=[tag] if tag else [], **names))
            return shelf(found[:SHOWN], more=more - SHOWN)
        return wrong.html

    def looked(self, text: str, order: Any, *filters: str) -> tuple[Any, ...]:
        """The cards and the filters, after a look at the folders."""
        with caught() as wrong:
            self.page.library.refresh()
            facets = self.page.library.facets()
            names = [[ANY, *facets[own]] for own in FILTERS]
            kept = [own if own in words else ANY for own, words in zip(filters, names)]
            updates = [gr.update(choices=words, value=own) for words, own in zip(names, kept)]
            return self.searched(text, order, *kept), *updates
        return wrong.html, *(gr.skip() for _ in self.filters)

    def clicked(self, event: gr.EventData) -> str:
        """The card that was clicked."""
        return str(event.entry)

    def opened(self, id: str) -> Iterator[tuple[Any, ...]]:
        """Everything about one adapter: what the index knows at once, then what is read."""
        with caught():
            entry = self.page.library.find(id)
            facts = (id, gr.update(visible=True), detail(entry, None))
            yield *facts, "", *(gr.skip() for _ in range(11))
            found, problem = _inspected(entry)
            values = singular_values(entry.place, layers=6) if found is not None else {}
            yield (
                id, gr.update(visible=True), detail(entry, found, problem),
                maps(found) if found else "", spectra(values), self._curve(entry),
                _recipe(entry), "", "", gr.update(value=None, visible=False), entry.name,
                entry.title, ", ".join(entry.tags), ", ".join(entry.triggers), entry.description,
            )  # fmt: skip
            return
        yield "", gr.update(visible=False), "", "", *(gr.skip() for _ in range(11))

    def _curve(self, entry: Entry) -> str:
        return loss_chart({"loss": self.page.curves.of(Path(entry.run))}) if entry.run else ""


def _inspected(entry: Entry) -> tuple[Inspection | None, str]:
    with caught() as wrong:
        found = inspect(entry.place)
        return found if isinstance(found, Inspection) else None, ""
    return None, wrong.message


def _recipe(entry: Entry) -> str:
    if entry.run is None:
        return ""
    try:
        return (Path(entry.run) / "recipe.yaml").read_text(encoding="utf-8")[:20_000]
    except (OSError, UnicodeDecodeError):
        return ""
