"""The tab that blends: several adapters as one, heard before it is kept."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from lorakit.analysis.combine import HOW, combine
from lorakit.analysis.diff import diff
from lorakit.core.errors import LorakitError
from lorakit.eval.generate import Decoding
from lorakit.library.names import check_file_name, check_free
from lorakit.web.ask import Answer, Question, answers, cards, example
from lorakit.web.cards import heat
from lorakit.web.page import Page, Step, listed, proposal, wire
from lorakit.web.told import alert, caught, note, number, whole
from lorakit.web.voices import Asked, called

MOST = 5  # adapters in a blend
ABOUT = {
    "exact": "the weighted sum, to the last bit that float32 has: ranks add up",
    "svd": "the nearest adapter of a rank to that sum",
    "ties": "of each the largest entries, with a vote on signs (Yadav et al. 2023)",
    "dare": "of each a random part of the entries, scaled up (Yu et al. 2024)",
}  # fmt: skip


def tab(page: Page) -> None:
    """Lay the tab out and wire it."""
    Blending(page)


class Blending:
    """The tab's components and handlers."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.chosen = gr.Dropdown(
            [], multiselect=True, max_choices=MOST, label="Adapters", elem_id="blend-adapters",
            info=f"Two to {MOST} over the same base.",
        )  # fmt: skip
        with gr.Row(elem_classes="fields"):
            self.weights = [
                gr.Slider(-2, 2, 1, step=0.05, label="weight", visible=False, elem_id=f"weight-{n}")
                for n in range(MOST)
            ]
        self.how = gr.Radio(
            [(f"{name}: {text}", name) for name, text in ABOUT.items()], value=HOW[0],
            label="Method", elem_id="blend-how",
        )  # fmt: skip
        with gr.Row(elem_classes="fields"):
            self.rank = gr.Number(
                None, precision=0, minimum=1, label="Rank", visible=False,
                info="of the blend; else the sum of ranks",
            )  # fmt: skip
            self.density = gr.Slider(
                0.05, 1, 0.2, step=0.05, label="Density", visible=False,
                info="share of the entries that is kept",
            )  # fmt: skip
        self.text = gr.Textbox(label="Input to hear it with", lines=2, elem_id="blend-text")
        self.name = gr.Textbox(label="Name of the blend", elem_id="blend-name")
        with gr.Row(elem_classes="begin"):
            self.hear = gr.Button("Hear it", variant="primary", elem_id="blend-hear")
            self.keep = gr.Button("Keep it", elem_id="blend-keep")
        self.told = gr.HTML(elem_id="blend-told")
        self.shown = gr.HTML(elem_id="blend-answers")
        with gr.Accordion("What they have in common", open=False) as self.common:
            self.overlap = gr.HTML(elem_id="overlap")
        self._wire()

    def _wire(self) -> None:
        given = [self.chosen, self.how, self.rank, self.density, *self.weights]
        text, begin = proposal(self.text)
        name, call = proposal(self.name)
        picked = Step(self.picked, self.chosen, [text, name, *self.weights])
        overlap = Step(self.overlapping, self.chosen, self.overlap)
        wire(self.chosen.change, picked, begin, call)
        wire(self.common.expand, overlap)
        wire(self.how.change, Step(self.options, self.how, [self.rank, self.density]))
        wire(self.hear.click, Step(self.heard, [self.text, *given], [self.told, self.shown]))
        wire(self.keep.click, Step(self.kept, [self.name, *given], self.told))
        opened = Step(self.opened, self.chosen, self.chosen)
        self.page.on_tab("blend", opened)

    def opened(self, chosen: list[str] | None) -> Any:
        """The adapters that are there now."""
        adapters = self.page.adapters(text=False)
        known = {value for _, value in adapters}
        return listed(adapters, [own for own in chosen or [] if own in known], chosen)

    def picked(self, chosen: list[str] | None) -> tuple[Any, ...]:
        """A weight for each adapter, an input to begin with, and a name."""
        labels = {value: label for label, value in self.page.adapters(text=False)}
        names = [labels.get(own, own) for own in (chosen or [])[:MOST]]
        # To begin with a mean: adapters for similar ends would act twice as strongly as a sum.
        shown = [
            gr.update(visible=True, label=f"Weight of {own}", value=round(1 / len(names), 2))
            for own in names
        ]
        shown += [gr.update(visible=False)] * (MOST - len(names))
        text = ""
        with caught():
            folders = self._folders(chosen)
            text = example(folders[0], self.page.place) if folders else ""
        made = "-and-".join(Path(own).name for own in names)[:80] if len(names) > 1 else ""
        return text, made, *shown

    def options(self, how: str) -> tuple[Any, Any]:
        """Which options the method has."""
        return gr.update(visible=how != "exact"), gr.update(visible=how in ("ties", "dare"))

    def heard(self, text: str, *given: Any) -> Iterator[tuple[Any, Any]]:
        """The answers of the base, of each adapter and of the blend, as they grow."""
        with caught() as wrong, tempfile.TemporaryDirectory(prefix="lorakit-") as folder:
            made = Path(folder) / "blend"
            proof = self._combine(made, *given)
            asked = [Asked(own) for own in (*self._folders(given[0]), made)]
            question = Question(text, asked, decoding=Decoding(96))
            found: list[Answer] = []
            for found in answers(self.page.voices, question, {}):
                yield note(_short(proof)), cards(found, {})
        if wrong:
            yield wrong.html, gr.skip()

    def kept(self, name: str, *given: Any) -> str:
        """Write the blend into the library, with its proof."""
        with caught() as wrong:
            self.page.place.adapters.mkdir(parents=True, exist_ok=True)
            label = check_file_name((name or "").strip())
            check_free(self.page.place.adapters, label)
            proof = self._combine(self.page.place.adapters / label, *given)
            self.page.library.refresh()
            return note(f"{label} is in the library. {_short(proof)}", good=True)
        return wrong.html

    def overlapping(self, chosen: list[str] | None) -> str:
        """Of each pair, how much of the directions of their changes is shared, by layer."""
        with caught() as wrong:
            folders = self._folders(chosen)
            if len(folders) < 2:
                return alert("Choose two adapters or more.")
            found = ""
            for one, two in itertools.combinations(folders, 2):
                pairs = diff(one, two).shared
                shared = {own.path: (own.inputs + own.outputs) / 2 for own in pairs}
                title = f"{called(one)} and {called(two)}: 0 is nothing in common, 1 the same space"
                found += heat(title, shared, "{:.2f}")
            return found
        return wrong.html

    def _combine(
        self, out: Path, chosen: list[str] | None, how: str, rank: float | None, density: float,
        *weights: float,
    ) -> Any:  # fmt: skip
        folders = self._folders(chosen)
        if len(folders) < 2:
            raise LorakitError("A blend is of two adapters or more. Choose them above.")
        return combine(
            folders, weights=[number(own, "a weight") for own in weights[: len(folders)]], how=how,
            rank=whole(rank, "the rank") if rank and how != "exact" else None,
            density=number(density, "the density"), out=out,
        )  # fmt: skip

    def _folders(self, chosen: Sequence[str] | None) -> list[Path]:
        return [self.page.place.inside(own) for own in chosen or []]


def _short(proof: Any) -> str:
    ranks = sorted(set(proof.ranks.values()))
    span = f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {ranks[0]} to {ranks[-1]}"
    return (
        f"{len(proof.ranks)} layers of {span}; the largest error against what the method asks for "
        f"is {proof.largest:.2g} of it."
    )
