"""The tab that explains: low-rank updates, shown with an adapter of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
from markupsafe import Markup

from lorakit.analysis.spectra import singular_values
from lorakit.core.errors import LorakitError
from lorakit.eval.proof import merge_proof
from lorakit.eval.session import needs_of, open_session
from lorakit.web.draw import product
from lorakit.web.page import Page, Step, wire
from lorakit.web.reports import reports
from lorakit.web.told import caught

WORDS = """
A pretrained layer multiplies its input by a matrix **W**. Full fine-tuning learns a change of all
of it. A *low-rank update* (Hu et al. 2021) learns two thin matrices instead: **A** makes of the
input *r* numbers, and **B** spreads these out again. The layer then computes **Wx + s·BAx**, with
the strength s = alpha / r. W stays as it was, to the last bit, and what was learned is small enough
to send in a message.
"""


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
        self.curve = gr.LinePlot(
            None, x="rank", y="error", height=240, label="What is lost by keeping less",
            x_title="rank that is kept", y_title="|change - kept| / |change|", visible=False,
            elem_id="learn-curve", y_lim=[0, 1],
        )  # fmt: skip
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
        outs = [self.layer, self.rank, self.curve, self.proof]
        picked = Step(self.picked, [self.chosen, self.met], [*outs, self.met])
        wire(self.chosen.change, picked, drawn)
        curved = Step(self.curved, [self.chosen, self.layer], [self.rank, self.curve])
        wire(self.layer.input, curved, drawn)
        wire(self.rank.change, drawn, latest=True)
        wire(self.prove.click, Step(self.proved, self.chosen, self.proof))
        opened = Step(self.opened, self.chosen, [self.chosen, self.reports])
        self.page.on_load(opened)
        self.page.on_tab("learn", opened, picked, drawn)

    def opened(self, chosen: str | None) -> tuple[Any, str]:
        """The adapters with low-rank changes that are there now, and the studies' reports."""
        listed = self.page.choices.adapters()
        known = [value for _, value in listed]
        value = chosen if chosen in known else (known[0] if known else None)
        return gr.update(choices=listed, value=value), reports(self.page)

    def picked(self, chosen: str | None, met: str) -> tuple[Any, ...]:
        """The layers of another adapter than before, the one that changes most first."""
        if chosen and chosen == met:
            return tuple(gr.skip() for _ in range(5))
        with caught() as wrong:
            layers = list(self._values(chosen))
            if not layers:
                raise LorakitError("It has no low-rank change to look at.")
            listed = gr.update(choices=layers, value=layers[0])
            return listed, *self.curved(chosen, layers[0]), "", chosen
        empty = '<p class="empty">Train an adapter first, or import one.</p>'
        told = wrong.html if chosen else empty
        return gr.update(choices=[], value=None), gr.skip(), gr.update(visible=False), told, ""

    def curved(self, chosen: str | None, layer: str | None) -> tuple[Any, Any]:
        """How much each rank loses."""
        import pandas as pd

        with caught():
            values = self._values(chosen)[layer or ""]
            lost = [lost_at(values, rank) for rank in range(len(values) + 1)]
            table = pd.DataFrame({"rank": range(len(lost)), "error": lost})
            top = max(1, len(values))
            return gr.update(maximum=max(2, top), value=top), gr.update(value=table, visible=True)
        return gr.skip(), gr.update(visible=False)

    def drawn(self, chosen: str | None, layer: str | None, rank: float) -> str:
        """W + BA to scale, with the numbers that the slider stands at."""
        with caught():
            values = self._values(chosen)[layer or ""]
            kept = min(int(rank), len(values))
            rows, columns = self._shape(chosen, layer or "")
            return product(rows, columns, kept, lost_at(values, kept))
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

    def _values(self, chosen: str | None) -> dict[str, list[float]]:
        return singular_values(self._folder(chosen))

    def _shape(self, chosen: str | None, layer: str) -> tuple[int, int]:
        from lorakit.analysis.inspect import Inspection, inspect

        found = inspect(self._folder(chosen))
        assert isinstance(found, Inspection)
        return next((own.rows, own.columns) for own in found.layers if own.path == layer)


def lost_at(values: list[float], rank: int) -> float:
    """|D - D_r| / |D| (Frobenius) of the best approximation of a rank (Eckart & Young 1936)."""
    whole = sum(own * own for own in values)
    return (sum(own * own for own in values[rank:]) / whole) ** 0.5 if whole else 0.0
