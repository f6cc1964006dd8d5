"""Real trainings: they outlive page and worker, stop gently, and end in the bits of a calm run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
from seen import in_state, until

from lorakit.core.errors import QueueError, RecipeError
from lorakit.jobs.history import events_since, run_at, runs
from lorakit.jobs.lock import holder
from lorakit.jobs.processes import kill
from lorakit.jobs.queue import WORKER
from lorakit.jobs.samples import sample
from lorakit.train.checkpoint import newest
from lorakit.train.run import run

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:torch.*")
PAGE = (
    "import sys, time; from lorakit.jobs.queue import Queue; from lorakit.train.recipe import *\n"
    "q = Queue(sys.argv[1]); print(q.add(read_recipe(sys.argv[2])).id); q.start()\n"
    "print('started', flush=True); time.sleep(600)"
)


def steps(job) -> int:
    events, _ = events_since(job.output)
    return events[-1]["step"] if events else 0


def adapter_of(folder) -> bytes:
    return (folder / "adapter" / "adapter_model.safetensors").read_bytes()


def add_from_a_page_that_is_killed(queue, recipe, tmp_path) -> str:
    (tmp_path / "recipe.yaml").write_text(recipe.dump())
    page = subprocess.Popen(
        [sys.executable, "-c", PAGE, str(queue.folder), str(tmp_path / "recipe.yaml")],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        id = page.stdout.readline().strip()
        assert page.stdout.readline() == "started\n"
    finally:
        page.kill()
        page.communicate()
    return id


def test_a_training_that_is_killed_stopped_and_orphaned_ends_in_the_same_bits(
    queue, recipe_to, tmp_path
):
    calm = run(recipe_to("calm"), quiet=True)
    recipe = recipe_to("run")
    id = add_from_a_page_that_is_killed(queue, recipe, tmp_path)
    job = queue.job(id)
    with pytest.raises(QueueError, match="holds no run"):
        sample(job.output, ["name: "])

    # The page is dead, then the worker: the training goes on, and is stopped as by Ctrl-C.
    until(lambda: steps(job) > 6)
    os.kill(holder(queue.folder / WORKER).pid, signal.SIGKILL)
    until(lambda: not queue.works())
    training = holder(job.printed.with_suffix(".lock")).pid
    os.kill(training, signal.SIGSTOP)  # it holds still, so that it has not ended meanwhile
    assert run_at(job.output).state == "running"
    told = sample(job.output, ["name: Zor\n"], max_new_tokens=4, device="cpu")
    assert told.step >= 5
    assert len(told.answers) == 1
    seen = steps(job)
    os.kill(training, signal.SIGCONT)
    until(lambda: steps(job) > seen)
    assert queue.cancel(id).state == "running"
    in_state(queue, id, "cancelled")
    saved = steps(job)
    assert saved < 60
    assert newest(job.output / "checkpoints")[0].name == f"checkpoint-{saved}"
    assert run_at(job.output).state == "interrupted"
    assert "INFO Stopped after step" in (job.output / "log.txt").read_text()

    # It goes on from there, and its own process is killed.
    _, offset = events_since(job.output)
    queue.resume(id)
    queue.start()
    until(lambda: steps(job) > saved + 2)
    new, _ = events_since(job.output, offset)
    assert [event["step"] for event in new[:2]] == [saved + 1, saved + 2]
    assert kill(job.printed.with_suffix(".lock"))
    assert "Resume it" in in_state(queue, id, "interrupted").error

    queue.resume(id)
    queue.start()
    done = in_state(queue, id, "done")
    assert (done.attempts, done.progress.step, done.progress.steps) == (3, 60, 60)
    assert adapter_of(job.output) == adapter_of(calm.folder)
    assert [own.name for own in runs(tmp_path / "runs")] == ["run", "calm"]
    assert "adapter: " in done.printed.read_text()
    assert sample(job.output, ["name: Zor\n"], max_new_tokens=4, device="cpu").step is None


def test_a_training_that_diverges_fails_with_its_error(queue, recipe_to):
    recipe = recipe_to("a", train__lr=1e38, train__clip=0, train__schedule="constant")
    job = queue.add(recipe)
    queue.start()
    failed = in_state(queue, job.id, "failed")
    assert "not finite" in failed.error
    assert "Traceback" not in job.printed.read_text()
    (found,) = runs(job.output.parent)
    assert (found.state, found.error) == ("failed", failed.error)


def test_a_model_that_writes_nothing_is_not_asked_to(tmp_path, recipe_to):
    recipe = recipe_to("a").model_dump() | {"task": "regression"}
    (tmp_path / "run.json").write_text(json.dumps({"recipe": recipe}))
    with pytest.raises(RecipeError, match="writes no text"):
        sample(tmp_path, ["name"])
