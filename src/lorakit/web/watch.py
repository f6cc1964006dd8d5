"""The part of the training tab that watches: progress, curves, and what can be done with a run."""

from __future__ import annotations

import time
from typing import Any

import gradio as gr
from markupsafe import Markup

from lorakit.core.errors import LorakitError
from lorakit.jobs.job import Job
from lorakit.web.curves import Curve, evaluation_table, loss_table
from lorakit.web.history import History
from lorakit.web.page import Page, Step, wire
from lorakit.web.told import alert, caught, span
from lorakit.web.writes import Writes

EVERY = 1.5  # seconds between two looks
EMPTY = (
    '<p class="empty">Nothing trains or waits: choose above, and start. Earlier runs stand under '
    "All runs.</p>"
)
STATES = {
    "waiting": "waits", "running": "trains", "done": "done", "failed": "failed",
    "cancelled": "cancelled", "interrupted": "interrupted",
}  # fmt: skip


class Watch:
    """The part's components; `look` is the step that shows how things are now."""

    def __init__(self, page: Page) -> None:
        self.page = page
        gr.Markdown("### Runs")
        with gr.Row(elem_classes="begin"):
            self.looked_at = gr.Dropdown([], label="Run", elem_id="run", allow_custom_value=True)
            self.stop = gr.Button("Stop", elem_id="stop", visible=False)
            self.resume = gr.Button("Go on", elem_id="resume", visible=False)
            self.first = gr.Button("To the front", elem_id="first", visible=False)
        self.status = gr.HTML(elem_id="status")
        self.trouble = gr.HTML(elem_id="run-trouble")
        with gr.Row():
            self.loss = _plot("loss", "Loss", "loss")
            self.held = _plot("value", "Loss on evaluation rows", "eval")
        # A tick sets these two alone, and what they say is drawn where they have changed: Gradio
        # builds each component anew that an event may set, even where it sets nothing.
        self.pulse = gr.State("")  # how the run is
        self.shape = gr.State("")  # which runs there are, and what can be done
        self.look = Step(self.looked, self.looked_at, [self.pulse, self.shape])
        drawn = [self.status, self.loss, self.held]
        wire(self.pulse.change, Step(self.drawn, self.looked_at, drawn))
        outs = [self.looked_at, self.loss, self.held, self.stop, self.resume, self.first]
        wire(self.shape.change, Step(self.shaped, self.looked_at, outs))
        acts = {self.stop: self.stopped, self.resume: self.resumed, self.first: self.moved}
        for button, act in acts.items():
            wire(button.click, Step(act, self.looked_at, self.trouble), self.look, queue=False)
        wire(gr.Timer(EVERY).tick, self.look)
        wire(self.looked_at.input, self.look)
        self.writes = Writes(page, self.looked_at)
        self.history = History(page)
        page.on_load(self.look)

    def looked(self, looked: str | None) -> tuple[str, str]:
        """What tells whether there is anything to draw, or other runs and buttons."""
        jobs = self.page.queue.jobs()
        job = _looked(jobs, looked)
        states = ",".join(f"{own.id}:{own.state}" for own in jobs)
        if job is None:
            return "none", f"{states} none"
        about = f"{job.id} {job.stopping} {job.position}"
        curve = self.page.curves.of(job.runs[0])
        there = f"{bool(curve.loss)} {_evaluated(curve)}"
        return f"{about} {job.state} {job.progress}", f"{states} {about} {there}"

    def drawn(self, looked: str | None) -> tuple[Any, ...]:
        """The run's line and its curves."""
        job = _looked(self.page.queue.jobs(), looked)
        if job is None:
            return EMPTY, gr.skip(), gr.skip()
        curve = self.page.curves.of(job.runs[0])
        drawn = (loss_table({job.title: curve}), evaluation_table({job.title: curve}))
        return progress(job), *(gr.skip() if own is None else own for own in drawn)

    def shaped(self, looked: str | None) -> tuple[Any, ...]:
        """The list of runs, and what is there and can be done for the one that is looked at."""
        jobs = self.page.queue.jobs()
        job = _looked(jobs, looked)
        listed = gr.update(
            choices=[(f"{own.title}, {STATES[own.state]}", own.id) for own in jobs],
            value=None if job is None else job.id,
        )
        if job is None:
            return listed, *(gr.update(visible=False) for _ in range(5))
        curve = self.page.curves.of(job.runs[0])
        going = job.state in ("waiting", "running")
        return (
            listed, gr.update(visible=bool(curve.loss)), gr.update(visible=_evaluated(curve)),
            gr.update(visible=going, interactive=not job.stopping),
            gr.update(visible=job.resumable), gr.update(visible=(job.position or 1) > 1),
        )  # fmt: skip

    def stopped(self, looked: str | None) -> str:
        """Stop a run as Ctrl-C does; what is wrong."""
        with caught() as wrong:
            self.page.queue.cancel(_chosen(looked))
        return wrong.html

    def resumed(self, looked: str | None) -> str:
        """Let a run go on where it was; what is wrong."""
        with caught() as wrong:
            self.page.queue.resume(_chosen(looked))
            self.page.queue.start()
        return wrong.html

    def moved(self, looked: str | None) -> str:
        """Let a run that waits be the next; what is wrong."""
        with caught() as wrong:
            self.page.queue.move(_chosen(looked))
        return wrong.html


def _plot(y: str, label: str, name: str) -> gr.LinePlot:
    return gr.LinePlot(
        None, x="step", y=y, label=label, elem_id=name, height=290, x_title="step",
        y_title="loss (nats per token)", visible=False,
    )  # fmt: skip


def _chosen(looked: str | None) -> str:
    if not looked:
        raise LorakitError("No run is chosen. Choose one from the list.")
    return looked


def progress(job: Job) -> str:
    """A run's state, with a bar, the time left, and what went wrong."""
    known = job.progress
    share = known.step / known.steps if known.steps else 0.0
    share = 1.0 if job.state == "done" else share
    facts = [Markup("<b>{}</b>").format(_state(job))]
    if known.steps:
        facts.append(Markup("step {:,} of {:,}").format(known.step, known.steps))
    if known.loss is not None:
        facts.append(Markup("loss {:.4f}").format(known.loss))
    if job.state == "running" and known.seconds_left is not None:
        facts.append(Markup("{} left").format(span(known.seconds_left)))
    if known.tokens_per_second is not None and job.state == "running":
        facts.append(Markup("{:,.0f} tokens per second").format(known.tokens_per_second))
    if job.ended is not None:
        ended = time.strftime("%Y-%m-%d %H:%M", time.localtime(job.ended))
        facts.append(Markup("ended {}").format(ended))
    bar = Markup(
        '<div class="bar {}" role="progressbar" aria-label="progress" aria-valuemin="0" '
        'aria-valuemax="100" aria-valuenow="{:.0f}"><i style="width:{:.1f}%"></i></div>'
    ).format(job.state, 100 * share, 100 * share)
    line = Markup('<p class="facts">{}</p>').format(Markup(" · ").join(facts))
    return str(bar + line) + (alert(job.error) if job.error else "")


def _state(job: Job) -> str:
    if job.stopping:
        return "stops after this step, and saves"
    if job.state == "waiting" and job.position:
        return "waits, next in the queue" if job.position == 1 else f"waits, place {job.position}"
    return STATES[job.state]


def _evaluated(curve: Curve) -> bool:
    return any("eval_loss" in own for own in curve.evaluations.values())


def _looked(jobs: list[Job], looked: str | None) -> Job | None:
    """The run that is looked at; else one that runs, else the newest."""
    chosen = next((own for own in jobs if own.id == looked), None)
    running = next((own for own in jobs if own.state == "running"), None)
    return chosen or running or (jobs[0] if jobs else None)
