"""The part of the training tab that watches: progress, curves, and what can be done with a run."""

from __future__ import annotations

import gradio as gr

from lorakit.core.errors import LorakitError
from lorakit.web.history import History
from lorakit.web.page import Page, Step, wire
from lorakit.web.told import alert, caught
from lorakit.web.writes import Writes

EVERY = 1.5  # seconds between two looks
# Asks for what is new and gives it to the components; the last of them says that no one answers.
LOOK = """async (run) => {
  const own = globalThis.lorakit ??= {seen: ''};
  const same = {__type__: 'update'};
  const asked = new URLSearchParams({run: run ?? '', seen: own.seen});
  let values = Array(COUNT).fill(same), lost = false;
  try {
    const answer = await fetch('news?' + asked);
    if (!answer.ok) throw new Error(answer.statusText);
    if (answer.status !== 204) {
      const told = await answer.json();
      own.seen = told.seen;
      values = told.values;
    }
  } catch {
    lost = true;
  }
  return [...values, {...same, visible: lost}];
}"""
LOST = (
    "The page's process does not answer. What trains goes on without it. If lorakit ui was ended, "
    "start it again; this page then goes on by itself."
)


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
        self.lost = gr.HTML(alert(LOST), elem_id="lost", visible=False)
        self.trouble = gr.HTML(elem_id="run-trouble")
        with gr.Row():
            self.loss = gr.HTML(elem_id="loss", min_height=0)
            self.held = gr.HTML(elem_id="value", min_height=0)
        outs = [
            self.status, self.loss, self.held, self.looked_at, self.stop, self.resume, self.first,
            self.lost,
        ]  # fmt: skip
        self.look = Step(None, self.looked_at, outs, js=LOOK.replace("COUNT", f"{len(outs) - 1}"))
        acts = {self.stop: self.stopped, self.resume: self.resumed, self.first: self.moved}
        for button, act in acts.items():
            wire(button.click, Step(act, self.looked_at, self.trouble), self.look, queue=False)
        wire(gr.Timer(EVERY).tick, self.look)
        wire(self.looked_at.input, self.look)
        self.writes = Writes(page, self.looked_at)
        self.history = History(page)
        page.on_load(self.look)

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


def _chosen(looked: str | None) -> str:
    if not looked:
        raise LorakitError("No run is chosen. Choose one from the list.")
    return looked
