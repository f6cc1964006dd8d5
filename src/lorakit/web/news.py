"""What is new of the runs: told to a page that looks again and again, by a route of its own.

Gradio's events build every component anew that they may set, which takes ten times what it takes
to find out what is new. So the page asks for plain values, and is told only what has changed.
"""

from __future__ import annotations

import hashlib
import time
from typing import Any

from markupsafe import Markup

from lorakit.jobs.job import Job
from lorakit.web.curves import Curve, held_chart, loss_chart
from lorakit.web.page import Page
from lorakit.web.told import alert, span

EMPTY = (
    '<p class="empty">Nothing trains or waits: choose above, and start. Earlier runs stand under '
    "All runs.</p>"
)
STATES = {
    "waiting": "waits", "running": "trains", "done": "done", "failed": "failed",
    "cancelled": "cancelled", "interrupted": "interrupted",
}  # fmt: skip
SAME = {"__type__": "update"}  # for Gradio: a component stays as it is


def add_news(app: Any, page: Page) -> None:
    """Serve what is new: the marks of what is shown after it, and a value for each component."""
    from fastapi.responses import JSONResponse, Response

    @app.get("/news")
    def told(run: str = "", seen: str = "") -> Any:
        found = news(page, run, seen)
        return Response(status_code=204) if found is None else JSONResponse(found)


def news(page: Page, looked: str | None, seen: str) -> dict[str, Any] | None:
    """What has changed since the marks that were given; None if nothing has.

    `values` are for the status, the two curves, the list of runs, and the buttons that stop, go on
    and put first.
    """
    jobs = page.queue.jobs()
    job = _looked(jobs, looked)
    curve = Curve() if job is None else page.curves.of(job.runs[0])
    acts = None if job is None else (job.id, *_acts(job))
    pulse, shape = _mark(job, curve.offset), _mark(acts, [_listed(own) for own in jobs])
    was = seen.split(" ")
    if was == [pulse, shape]:
        return None
    drawn = _drawn(job, curve) if pulse not in was else [SAME] * 3
    shaped = _shaped(jobs, job) if shape not in was else [SAME] * 4
    return {"seen": f"{pulse} {shape}", "values": [*drawn, *shaped]}


def _drawn(job: Job | None, curve: Curve) -> list[Any]:
    """The run's line and its curves."""
    if job is None:
        return [EMPTY, "", ""]
    known = {job.title: curve}
    return [progress(job), loss_chart(known), held_chart(known)]


def _shaped(jobs: list[Job], job: Job | None) -> list[Any]:
    """The list of runs, and what can be done with the one that is looked at."""
    listed = {
        **SAME, "choices": [_listed(own) for own in jobs], "value": None if job is None else job.id
    }  # fmt: skip
    stop, resume, first, stops = (False,) * 4 if job is None else _acts(job)
    return [
        listed, {**SAME, "visible": stop, "interactive": not stops}, {**SAME, "visible": resume},
        {**SAME, "visible": first},
    ]  # fmt: skip


def _listed(job: Job) -> list[str]:
    return [f"{job.title}, {STATES[job.state]}", job.id]


def _acts(job: Job) -> tuple[bool, ...]:
    """Whether it can be stopped, can go on, can be put first; and whether it is stopping."""
    going = job.state in ("waiting", "running")
    return going, job.resumable, (job.position or 1) > 1, job.stopping


def _mark(*what: object) -> str:
    return hashlib.sha256(repr(what).encode()).hexdigest()[:16]


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
    line = Markup('<p class="now">{}</p>').format(Markup(" · ").join(facts))
    return str(bar + line) + (alert(job.error) if job.error else "")


def _state(job: Job) -> str:
    if job.stopping:
        return "stops after this step, and saves"
    if job.state == "waiting" and job.position:
        return "waits, next in the queue" if job.position == 1 else f"waits, place {job.position}"
    return STATES[job.state]


def _looked(jobs: list[Job], looked: str | None) -> Job | None:
    """The run that is looked at; else one that runs, else the newest."""
    chosen = next((own for own in jobs if own.id == looked), None)
    running = next((own for own in jobs if own.state == "running"), None)
    return chosen or running or (jobs[0] if jobs else None)
