"""The part of the training tab that looks back: every run there is, and some side by side."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import gradio as gr
from markupsafe import Markup

from lorakit.jobs.history import Comparison, Run, compare, runs
from lorakit.web.cards import base_name
from lorakit.web.curves import loss_chart, thinned
from lorakit.web.draw import spark
from lorakit.web.found import is_text
from lorakit.web.page import Page, Step, wire
from lorakit.web.told import caught

MOST = 200  # runs in the table
ASIDE = ("seconds", "step", "loss")  # metrics that the table's own columns show, or that are none
HEAD = ("run", "state", "loss", "evaluated", "base", "method", "steps", "began")


class History:
    """The part's components; the recipe of the first chosen run can be used again."""

    def __init__(self, page: Page) -> None:
        self.page = page
        with gr.Accordion("All runs", open=False, elem_id="history") as self.panel:
            self.table = gr.HTML(elem_id="runs")
            with gr.Row(elem_classes="begin"):
                self.chosen = gr.Dropdown(
                    [], multiselect=True, label="Compare", elem_id="compare",
                    info="Two runs or more, side by side.",
                )  # fmt: skip
                self.reuse = gr.Button("Use its recipe again", elem_id="reuse")
            self.trouble = gr.HTML(elem_id="history-trouble")
            self.side = gr.HTML(elem_id="comparison")
            self.curves = gr.HTML(elem_id="compared-loss")
        wire(self.panel.expand, Step(self.listed, self.chosen, [self.table, self.chosen]))
        wire(
            self.chosen.change,
            Step(self.compared, self.chosen, [self.side, self.curves, self.trouble]),
            latest=True,
        )

    def listed(self, chosen: list[str] | None) -> tuple[str, Any]:
        """The table of runs, and the runs that can be compared."""
        found = self._runs()
        names = [(own.name, str(own.folder)) for own in found]
        kept = [own for own in chosen or [] if own in {value for _, value in names}]
        return self._table(found), gr.update(choices=names, value=kept)

    def compared(self, chosen: list[str] | None) -> tuple[Any, ...]:
        """Where the recipes of runs differ, their metrics, and their curves in one picture."""
        with caught() as wrong:
            folders = [self.page.place.inside(own) for own in chosen or []]
            if len(folders) < 2:
                return "", "", ""
            found = compare(folders)
            known = {n: self.page.curves.of(own) for n, own in zip(found.names, folders)}
            return side_by_side(found), loss_chart(known), ""
        return "", "", wrong.html

    def recipe(self, chosen: list[str] | None) -> str:
        """The text of the first chosen run's recipe, without its output."""
        from lorakit.train.recipe import make_recipe
        from lorakit.web.fields import as_yaml

        folder = self.page.place.inside(chosen[0]) if chosen else None
        run = next((own for own in self._runs() if own.folder == folder), None)
        if run is None:
            return ""
        raw = make_recipe(run.recipe).model_dump(exclude_defaults=True)
        return as_yaml({name: value for name, value in raw.items() if name != "output"})

    def _runs(self) -> list[Run]:
        found: dict[Path, Run] = {}
        for root in self.page.place.roots:
            found |= {own.folder: own for own in runs(root) if is_text(str(own.folder))}
        return sorted(found.values(), key=lambda own: -own.began)

    def _table(self, found: list[Run]) -> str:
        if not found:
            return '<p class="empty">No run lies below these folders yet.</p>'
        head = Markup("").join(Markup('<th scope="col">{}</th>').format(own) for own in HEAD)
        rows = Markup("").join(map(self._row, found[:MOST]))
        more = len(found) - MOST
        rest = Markup('<p class="empty">and {:,} older ones</p>').format(more) if more > 0 else ""
        return str(
            Markup(
                '<div class="runs"><table><thead><tr>{}</tr></thead>'
                "<tbody>{}</tbody></table>{}</div>"
            ).format(head, rows, rest)
        )

    def _row(self, run: Run) -> Markup:
        scores = [
            f"{name.removeprefix('eval_')} {value:.4g}" for name, value in run.metrics.items()
            if name not in ASIDE and isinstance(value, (int, float))
        ]  # fmt: skip
        curve = [value for _, value in thinned(self.page.curves.of(run.folder).loss, 40)]
        last = "" if run.progress.loss is None else f"{run.progress.loss:.4f}"
        cells = (
            Markup('<td title="{}">{}</td>').format(run.error or "", run.state),
            Markup("<td>{} {}</td>").format(spark(curve), last),
            Markup("<td>{}</td>").format(", ".join(scores[:3])),
            Markup("<td>{}</td>").format(base_name(str(run.recipe["model"]))),
            Markup("<td>{}</td>").format(run.recipe["method"]),
            Markup("<td>{} of {}</td>").format(run.progress.step, run.progress.steps or "?"),
            Markup("<td>{}</td>").format(
                time.strftime("%Y-%m-%d %H:%M", time.localtime(run.began))
            ),
        )
        name = Markup('<th scope="row">{}</th>').format(run.name)
        return Markup("<tr>{}{}</tr>").format(name, Markup("").join(cells))


def side_by_side(found: Comparison) -> str:
    """The fields that differ, then the metrics, a column for each run."""
    head = Markup("").join(Markup('<th scope="col">{}</th>').format(own) for own in found.names)
    body = Markup("").join(
        Markup('<tr class="{}"><th scope="row">{}</th>{}</tr>').format(
            kind, name, Markup("").join(Markup("<td>{}</td>").format(_plain(v)) for v in values)
        )
        for kind, some in (("field", found.fields), ("metric", found.metrics))
        for name, values in some.items()
    )
    return str(
        Markup(
            '<div class="runs"><table><thead><tr><td></td>{}</tr></thead>'
            "<tbody>{}</tbody></table></div>"
        ).format(head, body)
    )


def _plain(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.5g}" if isinstance(value, float) else str(value)
