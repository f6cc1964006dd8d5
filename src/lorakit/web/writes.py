"""The part of the training tab that shows what a run writes by now, at each of its checkpoints."""

from __future__ import annotations

from typing import Any

import gradio as gr
from markupsafe import Markup

from lorakit.core.errors import LorakitError
from lorakit.jobs.job import Job
from lorakit.jobs.samples import sample
from lorakit.train.checkpoint import all_of, step_of
from lorakit.train.folder import CHECKPOINTS
from lorakit.train.recipe import make_recipe
from lorakit.web.ask import first_prompt
from lorakit.web.page import Page, Step, wire
from lorakit.web.told import caught

EVERY = 3  # seconds between two looks for a checkpoint
MOST = 12  # texts that are kept
Written = dict[str, Any]  # run, step, prompt, answer


class Writes:
    """The part's components; `looked_at` is the component that says which run."""

    def __init__(self, page: Page, looked_at: gr.Dropdown) -> None:
        self.page = page
        with gr.Accordion("What it writes by now", open=False):
            with gr.Row(elem_classes="begin"):
                self.prompt = gr.Textbox(
                    label="Prompt", elem_id="sample-prompt", info="Else one of its own rows."
                )
                self.write = gr.Button("Let it write", elem_id="sample")
            self.follow = gr.Checkbox(
                False, label="And again at every checkpoint", elem_id="follow",
                info="The base is loaded once more for it.",
            )  # fmt: skip
            self.trouble = gr.HTML(elem_id="sample-trouble")
            self.texts = gr.HTML(elem_id="samples")
        self.kept = gr.State([])
        timer = gr.Timer(EVERY, active=False)
        given, outs = [looked_at, self.prompt, self.kept], [self.kept, self.texts, self.trouble]
        wire(self.write.click, Step(self.asked, given, outs))
        wire(timer.tick, Step(self.again, given, outs))
        wire(self.follow.change, Step(lambda on: gr.Timer(active=on), self.follow, timer))

    def asked(self, looked: str | None, prompt: str, kept: list[Written]) -> tuple[Any, ...]:
        """What the run writes with what it has learned so far."""
        with caught() as wrong:
            job = self._job(looked)
            text = prompt if prompt.strip() else self._row(job)
            found = sample(job.runs[0], [text])
            now = {"run": job.id, "step": found.step, "prompt": text, "answer": found.answers[0]}
            kept = [now, *(own for own in kept if own["run"] == job.id)][:MOST]
            return kept, texts(kept), ""
        return gr.skip(), gr.skip(), wrong.html

    def again(self, looked: str | None, prompt: str, kept: list[Written]) -> tuple[Any, ...]:
        """The same once more, where there is a checkpoint that it has not written with."""
        with caught():
            job = self._job(looked)
            there = all_of(job.runs[0] / CHECKPOINTS)
            step = None if job.state == "done" or not there else step_of(there[0])
            known = any(own["run"] == job.id and own["step"] == step for own in kept)
            if not known and (there or job.state == "done"):
                return self.asked(looked, prompt, kept)
        return tuple(gr.skip() for _ in range(3))

    def _job(self, looked: str | None) -> Job:
        if not looked:
            raise LorakitError("No run is chosen. Choose one from the list.")
        return self.page.queue.job(looked)

    def _row(self, job: Job) -> str:
        text = first_prompt(make_recipe(job.recipe), self.page.place)
        if not text:
            raise LorakitError("Its rows have no prompt of one field. Write one.")
        return text


def texts(kept: list[Written]) -> str:
    """What was written, the newest first."""
    items = Markup("").join(
        Markup("<li><b>{}</b> <q>{}</q><p>{}</p></li>").format(
            "at the end" if own["step"] is None else f"after step {own['step']:,}",
            own["prompt"], own["answer"],
        )
        for own in kept
    )  # fmt: skip
    return str(Markup('<ol class="samples">{}</ol>').format(items))
