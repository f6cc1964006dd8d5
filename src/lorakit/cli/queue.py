"""`lorakit queue`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from lorakit.jobs.job import Job
    from lorakit.jobs.queue import Queue

CONTEXT = {"allow_extra_args": True, "ignore_unknown_options": True}
ACTIONS = {
    "list": 0, "watch": 0, "start": 0, "stop": 0, "runs": 0, "cancel": 1, "resume": 1, "remove": 1,
    "move": 1, "add": 1, "compare": 2, "sample": 2,
}  # fmt: skip
WORDS = {"add": "a recipe", "compare": "two runs or more", "sample": "a run and prompts"}
PAUSE = 1.0  # seconds between two pictures of `watch`


def command(
    words: list[str] = typer.Argument(
        None, metavar="[ACTION] [WHAT]", help="What to do with which; without any, a list."
    ),
    runs: str = typer.Option("runs", "--runs", help="The folder of runs; the queue is in it."),
    title: str = typer.Option(None, "--title", help="With add: a name to show."),
    start: bool = typer.Option(False, "--start", help="With add and resume: start as well."),
    workers: int = typer.Option(None, "--workers", min=1, help="With start: trainings at once."),
    grace: float = typer.Option(
        None, "--grace", min=0, help="With start: seconds until what should stop is ended."
    ),
    last: bool = typer.Option(False, "--last", help="With move: to the end, not the front."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Train one recipe after the other, in processes that outlive this one.

    `lorakit queue add recipe.yaml --lora.rank 4 --start` checks a recipe and lets it wait its turn;
    fields are set as for `lorakit train`. Then `lorakit queue` lists all, `watch` until all is
    done, and `start`, `stop`, `cancel 3`, `resume 3`, `move 3` and `remove 3` do what they say.
    `runs` lists every run in the folder, `compare RUN RUN` shows in what runs differ, and
    `sample RUN 'a prompt'` answers with the newest checkpoint of a run that still goes on.
    """
    action, rest = _parsed(words)

    from lorakit.cli.output import show
    from lorakit.jobs.queue import QUEUE, Queue

    if action in LOOKS:
        show(*LOOKS[action](rest or [runs]), as_json=as_json)
        return
    queue = Queue(Path(runs) / QUEUE)
    if action == "watch":
        _watch(queue, as_json=as_json)
    elif action in ("list", "start", "stop"):
        if action == "start":
            queue.start(workers=workers, grace=grace)
        elif action == "stop":
            queue.stop()
        show(*_listed(queue), as_json=as_json)
    elif action == "remove":
        queue.remove(rest[0])
        show(f"job {rest[0]} is removed; its run stays", {"removed": rest[0]}, as_json=as_json)
    else:
        job = _changed(queue, action, rest, title=title, last=last)
        if start and action in ("add", "resume"):
            queue.start(workers=workers, grace=grace)
            job = queue.job(job.id)
        show(_told(job, queue), job.told(), as_json=as_json)


def _parsed(words: list[str] | None) -> tuple[str, list[str]]:
    """The action, and what it is for; or `RecipeError`."""
    from lorakit.core.errors import RecipeError, did_you_mean

    action, *rest = words or ["list"]
    if action not in ACTIONS:
        hint = did_you_mean(action, ACTIONS) or f" Known are {', '.join(ACTIONS)}."
        raise RecipeError(f"{action!r} is nothing that a queue can do.{hint}")
    needs = ACTIONS[action]
    if len(rest) < needs or (len(rest) > needs and action not in WORDS):
        what = WORDS.get(action, "one job" if needs else "nothing more")
        got = f"{' '.join(rest)!r}" if rest else "nothing"
        raise RecipeError(f"lorakit queue {action} takes {what}, and got {got}.")
    return action, rest


def _changed(queue: Queue, action: str, rest: list[str], *, title: str | None, last: bool) -> Job:
    from lorakit.train.recipe import parse_overrides, read_recipe

    if action == "add":
        recipe = read_recipe(rest[0], parse_overrides(rest[1:]))
        return queue.add(recipe, title=title)
    if action == "move":
        return queue.move(rest[0], first=not last)
    return queue.cancel(rest[0]) if action == "cancel" else queue.resume(rest[0])


def _listed(queue: Queue) -> tuple[str, Any]:
    from lorakit.cli.jobs_table import jobs_table

    jobs, damaged, works = queue.jobs(), queue.damaged(), queue.works()
    data = {
        "folder": str(queue.folder), "works": works, "jobs": [job.told() for job in jobs],
        "damaged": damaged,
    }  # fmt: skip
    lines = [jobs_table(jobs)] if jobs else [f"{queue.folder} holds no jobs."]
    lines += [f"{queue.folder / name} is no job: {why}" for name, why in damaged.items()]
    if not works and any(job.state in ("waiting", "running") for job in jobs):
        lines.append(f"No worker is there: {_program()} queue start --runs {queue.folder.parent}")
    return "\n".join(lines), data


def _watch(queue: Queue, *, as_json: bool) -> None:
    """Print the list whenever it has changed, until the worker has gone."""
    from lorakit.cli.output import show

    before = None
    while True:
        text, data = _listed(queue)
        if text != before:
            show(text if before is None else f"\n{text}", data, as_json=as_json)
        before = text
        if not data["works"]:
            return
        time.sleep(PAUSE)


def _told(job: Job, queue: Queue) -> str:
    from lorakit.cli.jobs_table import jobs_table

    lines = [jobs_table([job])]
    if job.state == "waiting" and not queue.works():
        lines.append(f"It waits until: {_program()} queue start --runs {queue.folder.parent}")
    return "\n".join(lines)


def _program() -> str:
    from lorakit.cli.output import program

    return program()


def _runs(places: list[str]) -> tuple[str, Any]:
    from lorakit.cli.jobs_table import runs_table
    from lorakit.jobs.history import runs

    found = runs(places[0])
    return runs_table(found) if found else f"{places[0]} holds no runs.", [
        run.told() for run in found
    ]


def _compare(places: list[str]) -> tuple[str, Any]:
    from lorakit.cli.jobs_table import comparison_table
    from lorakit.jobs.history import compare

    found = compare(places)
    return comparison_table(found), found.told()


def _sample(words: list[str]) -> tuple[str, Any]:
    import dataclasses

    from lorakit.jobs.samples import sample

    found = sample(words[0], words[1:])
    after = "at its end" if found.step is None else f"after step {found.step}"
    pairs = zip(found.prompts, found.answers)
    blocks = [f"> {prompt}\n{answer}" for prompt, answer in pairs]
    return "\n\n".join([f"{words[0]} {after}", *blocks]), dataclasses.asdict(found)


LOOKS = {"runs": _runs, "compare": _compare, "sample": _sample}
