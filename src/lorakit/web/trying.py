"""The tab that tries: its components, and what happens when they are used."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from lorakit.core.errors import LorakitError
from lorakit.eval.generate import Decoding
from lorakit.eval.session import needs_of
from lorakit.models.load import named_structure
from lorakit.web.ask import Question, Turns, answers, cards, example, is_chat
from lorakit.web.blocks import ON_LOAD, blocks_of, draw
from lorakit.web.page import Page, Step, any_of, listed, proposal, wire
from lorakit.web.told import alert, caught, number, whole
from lorakit.web.voices import Asked

AS_TOLD = "as the adapters say"


def tab(page: Page) -> None:
    """Lay the tab out and wire it."""
    Trying(page)


class Trying:
    """The tab's components and handlers."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self._ask_for()
        self._more()
        self.trouble = gr.HTML(elem_id="try-trouble")
        self.shown = gr.HTML(elem_id="try-answers")
        self.off = gr.State([])
        self.met = gr.State([])  # the adapters that input and conversation belong to
        self.turns = gr.State({})
        self.proposed, self.begin = proposal(self.text)
        self._wire()

    def _ask_for(self) -> None:
        with gr.Row():
            self.chosen = gr.Dropdown(
                [], multiselect=True, label="Adapters", elem_id="try-adapters", scale=3,
                info="Whom to ask: each answers beside the others.",
            )  # fmt: skip
            with gr.Column(scale=2, min_width=240):
                self.base = gr.Dropdown(
                    [(AS_TOLD, "")], value="", label="Base", elem_id="try-base",
                    info="Another, where theirs is not at hand.",
                )  # fmt: skip
                self.with_base = gr.Checkbox(True, label="The bare base as well")
                self.together = gr.Checkbox(False, label="All at once as well")
        self.text = gr.Textbox(label="Input", lines=3, elem_id="try-text", info="Ctrl+Enter asks.")
        with gr.Row(elem_classes="begin"):
            self.go = gr.Button("Ask", variant="primary", elem_id="try-go")
            self.stop = gr.Button("Stop", elem_id="try-stop")
            self.anew = gr.Button("New conversation", elem_id="try-anew", visible=False)

    def _more(self) -> None:
        with gr.Accordion("How they answer", open=False), gr.Row(elem_classes="fields"):
            self.strength = gr.Slider(
                0,
                2,
                1,
                step=0.05,
                label="Strength",
                elem_id="try-strength",
                info="0 is the base, 1 as it was trained.",
            )
            self.longest = gr.Slider(8, 1024, 96, step=8, label="Longest answer", info="in tokens")
            self.heat = gr.Slider(
                0, 2, 0, step=0.05, label="Temperature", info="0 takes the likeliest."
            )
            self.seed = gr.Number(
                0, precision=0, minimum=0, label="Seed", info="the same for every voice"
            )
            self.raw = gr.Checkbox(
                False, label="The input is the whole prompt", info="and goes into no template"
            )
        with gr.Accordion("Layers that act", open=False) as self.layers:
            gr.Markdown("Click a layer, a column or a block to turn it off, again to turn it on.")
            self.grid = gr.HTML(js_on_load=ON_LOAD, elem_id="try-layers")

    def _wire(self) -> None:
        given = [
            self.chosen, self.strength, self.off, self.with_base, self.together, self.base,
            self.text, self.longest, self.heat, self.seed, self.raw, self.turns,
        ]  # fmt: skip
        asking = wire(
            any_of(self.go.click, self.text.submit),
            Step(self.ask, given, [self.trouble, self.shown, self.turns]),
        )
        self.stop.click(None, cancels=[asking], queue=False, api_visibility="private")
        wire(self.anew.click, Step(lambda: ({}, ""), None, [self.turns, self.shown]))
        drawn = Step(self.drawn, [self.chosen, self.off, self.base], self.grid)
        clicked = Step(self.clicked, [self.off, self.chosen, self.base], [self.off, self.grid])
        wire(self.grid.click, clicked)
        wire(any_of(self.layers.expand, self.base.input), drawn)
        outs = [self.proposed, self.anew, self.turns, self.off, self.trouble, self.met]
        picked = Step(self.picked, [self.chosen, self.met], outs)
        wire(self.chosen.change, picked, self.begin, drawn)
        # A tab that is drawn for the first time tells of no change.
        opened = Step(self.opened, [self.chosen, self.base], [self.chosen, self.base])
        self.page.on_tab("try", opened, picked, self.begin)

    def ask(
        self, paths: list[str] | None, strength: float, off: list[str], with_base: bool,
        together: bool, *more: Any,
    ) -> Iterator[tuple[Any, ...]]:  # fmt: skip
        """(what is wrong, the answers so far, the turns of the conversation), again and again."""
        base, text, longest, heat, seed, raw, before = more
        with caught() as wrong:
            adapters = [
                Asked(folder, number(strength, "the strength"), tuple(sorted(off)))
                for folder in self._folders(paths)
            ]
            if not adapters and not base:
                raise LorakitError("No adapter is chosen. Choose one, or train one first.")
            decoding = Decoding(
                whole(longest, "the longest answer"), number(heat, "the temperature"),
                whole(seed or 0, "the seed"),
            )  # fmt: skip
            question = Question(
                text, adapters, base=base or None, with_base=with_base, together=together,
                raw=raw, decoding=decoding,
            )  # fmt: skip
            chat = not raw and any(is_chat(own.folder) for own in adapters)
            turns: dict[str, Turns] = before if chat else {}
            found = []
            for found in answers(self.page.voices, question, turns):
                yield "", cards(found, turns, asked=text if chat else ""), before
            if chat:
                said = {own.label: _and_then(turns.get(own.label, []), text, own.text)
                        for own in found}  # fmt: skip
                for own in found:
                    own.text = ""
                yield "", cards(found, said), said
        if wrong:
            yield wrong.html, gr.skip(), before

    def picked(self, paths: list[str] | None, met: list[str]) -> tuple[Any, ...]:
        """An input to begin with, and no conversation yet, for other adapters than before."""
        if (paths or []) == met:
            return tuple(gr.skip() for _ in range(6))
        chat, prompt = False, ""
        with caught() as wrong:
            folders = self._folders(paths)
            chat = any(map(is_chat, folders))
            prompt = example(folders[0], self.page.place) if folders else ""
        # The first time there is nothing to take back but what was said to someone quick.
        told = wrong.html if wrong or met else gr.skip()
        return prompt, gr.update(visible=chat), {}, [], told, paths or []

    def drawn(self, paths: list[str] | None, off: list[str], base: str | None) -> str:
        """The table of layers, each on or off."""
        with caught() as wrong:
            folders = self._folders(paths)
            if not folders:
                return alert("No adapter is chosen. Choose one above.")
            needs = needs_of([str(own) for own in folders], model=base or None)
            there = blocks_of(named_structure(self.page.choices.base(needs.base)))
            acting = {path: 1 for path in there.cells.values() if path not in off}
            return str(draw(there, acting, words=("acts", "is off")))
        return wrong.html

    def clicked(
        self, off: list[str], paths: list[str] | None, base: str | None, event: gr.EventData
    ) -> tuple[list[str], str]:
        """The layers that are off after a click into the table."""
        cells = set(event.cells)
        now = sorted(set(off) - cells if cells <= set(off) else set(off) | cells)
        return now, self.drawn(paths, now, base)

    def opened(self, paths: list[str] | None, base: str | None) -> tuple[Any, Any]:
        """The adapters and bases that are there now; where none is chosen, the newest adapter."""
        adapters = self.page.adapters()
        known = [value for _, value in adapters]
        kept = [own for own in paths or [] if own in known]
        bases = [(AS_TOLD, ""), *self.page.choices.lists()[0]]
        still = base if base in [value for _, value in bases] else ""
        return listed(adapters, kept or known[:1], paths), listed(bases, still, base)

    def _folders(self, paths: list[str] | None) -> list[Path]:
        return [self.page.place.inside(own) for own in paths or []]


def _and_then(turns: Turns, asked: str, answer: str) -> Turns:
    return [*turns, {"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
