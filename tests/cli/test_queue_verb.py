"""`lorakit queue` as a user meets it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from lorakit.cli.jobs_table import bar, duration
from lorakit.demo.recipe import demo_recipe
from lorakit.jobs.lock import held, holder
from lorakit.jobs.progress import Progress


def lorakit(*arguments: str, cwd) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "lorakit", "queue", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd)


@pytest.fixture
def place(tmp_path):
    recipe = demo_recipe(tmp_path / "rows", "runs/a")
    (tmp_path / "recipe.yaml").write_text(recipe.dump())
    yield tmp_path
    lock = tmp_path / "runs" / ".queue" / "worker.lock"
    while held(lock):
        if (found := holder(lock)) is not None:
            os.kill(found.pid, signal.SIGKILL)
        time.sleep(0.01)


def test_a_job_from_adding_to_its_end(place):
    added = lorakit("add", "recipe.yaml", "--lora.rank", "2", "--title", "small", cwd=place)
    assert added.returncode == 0, added.stderr
    assert re.search(r"^1 +[0-9a-f]{6} +small +waiting, next$", added.stdout, re.MULTILINE)
    assert "queue start" in added.stdout
    # What it trains by is no recipe any more, so that the process ends at once.
    (file,) = (place / "runs" / ".queue").glob("0001-*.yaml")
    assert "rank: 2" in file.read_text()
    file.write_text("model: [")
    started = lorakit("start", "--workers", "2", cwd=place)
    assert started.returncode == 0, started.stderr
    watched = lorakit("watch", cwd=place)
    assert watched.returncode == 0, watched.stderr
    assert "failed" in watched.stdout.splitlines()[-2]
    assert "is not valid YAML" in watched.stdout.splitlines()[-1]
    found = json.loads(lorakit("--json", cwd=place).stdout)
    assert (found["works"], found["damaged"]) == (False, {})
    (job,) = found["jobs"]
    assert (job["state"], job["exit_code"], job["resumable"]) == ("failed", 2, True)
    assert job["recipe"]["lora"]["rank"] == 2
    assert job["output"] == str(place / "runs" / "a")
    again = json.loads(lorakit("resume", job["id"], "--json", cwd=place).stdout)
    assert (again["state"], again["position"]) == ("waiting", 1)
    assert "cancelled" in lorakit("cancel", "1", cwd=place).stdout
    assert "its run stays" in lorakit("remove", "1", cwd=place).stdout
    assert "holds no jobs" in lorakit(cwd=place).stdout
    assert "holds no runs" in lorakit("runs", cwd=place).stdout


MISTAKES = [
    (["cancel", "1"], "is no queue yet"),
    (["cancel"], "takes one job, and got nothing"),
    (["start", "3"], "takes nothing more, and got '3'"),
    (["cancle", "1"], "Did you mean 'cancel'"),
    (["add", "recpie.yaml"], "Did you mean recipe.yaml"),
    (["add", "recipe.yaml", "--lora.rnak", "2"], "Did you mean lora.rank"),
    (["add", "recipe.yaml", "--data.train", "nowhere.jsonl"], "is not there"),
    (["compare", "runs"], "takes two runs or more"),
    (["compare", "runs", "rows"], "holds no run"),
    (["sample", "rows", "name"], "holds no run"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES, ids=lambda value: str(value)[:40])
def test_a_mistake_is_one_line_and_leaves_nothing(arguments, message, place):
    before = sorted(place.rglob("*"))
    done = lorakit(*arguments, cwd=place)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1, done.stderr
    assert message in done.stderr
    assert sorted(place.rglob("*")) == before


def test_looking_at_a_queue_needs_no_model_library(tmp_path):
    code = (
        "import sys; from lorakit.jobs.queue import Queue; from lorakit.jobs.history import runs\n"
        "Queue(sys.argv[1]).jobs(); runs(sys.argv[1]); import lorakit.jobs.worker\n"
        "print(*sorted({m.split('.')[0] for m in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert not {"torch", "transformers", "numpy", "matplotlib"} & set(done.stdout.split())


def test_bars_and_times_in_words():
    assert bar(Progress(step=30, steps=60)) == "[########--------] 30/60"
    assert bar(Progress(step=70, steps=60)) == "[################] 70/60"
    assert bar(Progress(step=3)) == "3/?"
    assert [duration(s) for s in (0.4, 59.6, 3599, 7261)] == [
        "0 s", "1 min 0 s", "59 min 59 s", "2 h 1 min",
    ]  # fmt: skip
