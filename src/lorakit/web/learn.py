"""The tab that explains: low-rank updates, shown with an adapter of one's own."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
from markupsafe import Markup

from lorakit.analysis.inspect import Inspection, inspect
from lorakit.analysis.spectra import singular_values
from lorakit.core.errors import LorakitError
from lorakit.eval.proof import merge_proof
from lorakit.eval.session import needs_of, open_session
from lorakit.web.draw import lost, product
from lorakit.web.mark import Mark, mark_of
from lorakit.web.page import Page, Step, listed, wire
from lorakit.web.reports import reports
from lorakit.web.told import caught, whole

WORDS = """
A pretrained layer multiplies its input by a matrix **W**. Full fine-tuning learns a change of all
of it. A *low-rank update* (Hu et al. 2021) learns two thin matrices instead: **A** makes of the
input *r* numbers, and **B** spreads these out again. The layer then computes **Wx + s·BAx**, with
the strength s = alpha / r. W stays as it was, to the last bit, and what was learned is small enough
to send in a message.
"""


class Seen(NamedTuple):
    """A layer's change: its shape (rows, columns) and its singular values, the largest first."""

    rows: int
    columns: int
    values: list[float]


def tab(page: Page) -> None:
    """Lay the tab out and wire it."""
    Learning(page)


class Learning:
    """The tab's components and handlers."""

    def __init__(self, page: Page) -> None:
        self.page = page
        gr.Markdown(WORDS)
        with gr.Row():
            self.chosen = gr.Dropdown([], label="Your adapter", elem_id="learn-adapter")
            self.layer = gr.Dropdown([], label="Its layer", elem_id="learn-layer")
        self.rank = gr.Slider(
            1, 8, 8, step=1, label="Rank that is kept", elem_id="learn-rank",
            info="Of the change in this layer only the largest directions, so many.",
        )  # fmt: skip
        self.picture = gr.HTML(elem_id="learn-picture")
        gr.Markdown(
            "#### Merged, it is the same model\nThe change can be added to W, so that the layer "
            "costs nothing more; and taken out again, so that every bit is as before."
        )
        self.prove = gr.Button("Merge, ask, and take it out again", elem_id="learn-prove")
        self.proof = gr.HTML(elem_id="learn-proof")
        gr.Markdown("#### Studies")
        self.reports = gr.HTML(elem_id="learn-reports")
        self.met = gr.State("")  # the adapter whose layers are listed
        self._wire()

    def _wire(self) -> None:
        drawn = Step(self.drawn, [self.chosen, self.layer, self.rank], [self.picture])
        outs = [self.layer, self.rank, self.proof]
        picked = Step(self.picked, [self.chosen, self.met], [*outs, self.met])
        wire(self.chosen.change, picked, drawn)
        ranked = Step(self.ranked, [self.chosen, self.layer], self.rank)
        wire(self.layer.input, ranked, drawn)
        wire(self.rank.change, drawn, latest=True)
        wire(self.prove.click, Step(self.proved, self.chosen, self.proof))
        opened = Step(self.opened, self.chosen, [self.chosen, self.reports])
        self.page.on_tab("learn", opened, picked, drawn)

    def opened(self, chosen: str | None) -> tuple[Any, str]:
        """The adapters with low-rank changes that are there now, and the studies' reports."""
        adapters = self.page.adapters(text=False)
        known = [value for _, value in adapters]
        value = chosen if chosen in known else (known[0] if known else None)
        return listed(adapters, value, chosen), reports(self.page)

    def picked(self, chosen: str | None, met: str) -> tuple[Any, ...]:
        """The layers of another adapter than before, the one that changes most first."""
        if chosen and chosen == met:
            return tuple(gr.skip() for _ in range(4))
        with caught() as wrong:
            layers = list(self._layers(chosen))
            if not layers:
                raise LorakitError("It has no low-rank change to look at.")
            listed = gr.update(choices=layers, value=layers[0])
            return listed, self.ranked(chosen, layers[0]), "", chosen
        empty = '<p class="empty">Train an adapter first, or import one.</p>'
        told = wrong.html if chosen else empty
        return gr.update(choices=[], value=None), gr.skip(), told, ""

    def ranked(self, chosen: str | None, layer: str | None) -> Any:
        """The slider with the ranks of another layer."""
        with caught():
            top = max(1, len(self._layer(chosen, layer).values))
            return gr.update(maximum=max(2, top), value=top)
        return gr.skip()

    def drawn(self, chosen: str | None, layer: str | None, rank: float | None) -> str:
        """W + BA to scale, with the numbers that the slider stands at."""
        with caught():
            own = self._layer(chosen, layer)
            kept = min(max(0, whole(rank, "the rank")), len(own.values))
            shares = [lost_at(own.values, rank) for rank in range(len(own.values) + 1)]
            return product(own.rows, own.columns, kept, shares[kept]) + lost(shares, kept)
        return ""

    def proved(self, chosen: str | None) -> str:
        """Merge and unmerge on the loaded base, with what was compared."""
        with caught() as wrong:
            folder = self._folder(chosen)
            base = self.page.choices.base(needs_of([str(folder)]).base)
            session = open_session([str(folder)], model=base)
            found = merge_proof(session, next(iter(session.voices)))
            told = "Every bit of the base is" if found.restored else "The base is NOT"
            return str(
                Markup(
                    '<ul class="facts"><li>Merged against unmerged, the {:,} logits differ by at '
                    "most <b>{:.1e}</b>; the largest is {:.3g}.</li><li><b>{}</b> as it was, "
                    "once the change is taken out.</li></ul>"
                ).format(found.logits, found.error, found.largest, told)
            )
        return wrong.html

    def _folder(self, chosen: str | None) -> Path:
        if not chosen:
            raise LorakitError("No adapter is chosen. Train one first, or import one.")
        return self.page.place.inside(chosen)

    def _layer(self, chosen: str | None, layer: str | None) -> Seen:
        found = self._layers(chosen).get(layer or "")
        if found is None:
            raise LorakitError("No layer is chosen. Choose one.")
        return found

    def _layers(self, chosen: str | None) -> dict[str, Seen]:
        place = self._folder(chosen)
        return _seen(place, mark_of(place))


@functools.lru_cache(maxsize=8)
def _seen(place: Path, mark: Mark) -> dict[str, Seen]:
    """What the tab shows of an adapter, read once: a slider asks for it at every move."""
    del mark  # part of the key
    found = inspect(place)
    assert isinstance(found, Inspection)
    shapes = {own.path: (own.rows, own.columns) for own in found.layers}
    return {path: Seen(*shapes[path], own) for path, own in singular_values(place).items()}


def lost_at(values: list[float], rank: int) -> float:
    """|D - D_r| / |D| (Frobenius) of the best approximation of a rank (Eckart & Young 1936)."""
    whole = sum(own * own for own in values)
    return (sum(own * own for own in values[rank:]) / whole) ** 0.5 if whole else 0.0
