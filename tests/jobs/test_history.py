"""Runs on disk: states by facts, curves read piece by piece, comparisons, and a cheap poll."""

from __future__ import annotations

import json
import os
import time

import pytest

from lorakit.core.errors import QueueError
from lorakit.jobs import history
from lorakit.jobs.history import compare, events_since, runs
from lorakit.train.lock import owned

LOGGED = "2024-01-02 03:04:05,678"


@pytest.fixture
def run_in(recipe_to, tmp_path):
    """A function that leaves what a run leaves."""

    def make(name: str, *, metrics: dict | None = None, step: int = 3, **changes):
        recipe = recipe_to(name, **changes)
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(json.dumps({"recipe": recipe.model_dump()}))
        lines = [
            json.dumps({"step": n, "steps": 60, "loss": 1 / n, "seconds_left": 60.0 - n})
            for n in range(1, step + 1)
        ]
        (folder / "events.jsonl").write_text("".join(f"{line}\n" for line in lines))
        (folder / "log.txt").write_text(f"{LOGGED} INFO it begins\n")
        if metrics is not None:
            (folder / "metrics.json").write_text(json.dumps(metrics))
        return folder

    return make


def test_runs_are_found_wherever_they_are_and_in_what_state(run_in, tmp_path):
    run_in("done", metrics={"loss": 0.5})
    failed, going = run_in("failed"), run_in("going")
    run_in("sweep/rank=1,seed=0"), run_in("gone")
    (failed / "log.txt").write_text(f"{LOGGED} ERROR The loss is nan.\nsecond line\n")
    (going / "checkpoints" / "inner").mkdir(parents=True)
    (going / "checkpoints" / "inner" / "run.json").write_text("{}")
    bad = tmp_path / "runs" / "bad"
    bad.mkdir()
    (bad / "run.json").write_text('{"recipe": {"model": 1}}')
    with owned(going):
        found = {run.name: run for run in runs(tmp_path / "runs")}
    assert {name: run.state for name, run in found.items()} == {
        "done": "done", "failed": "failed", "going": "running", "gone": "interrupted",
        "sweep/rank=1,seed=0": "interrupted",
    }  # fmt: skip
    assert found["failed"].error == "The loss is nan."
    assert found["going"].progress.step == 3
    assert found["going"].progress.seconds_left == 57.0
    assert (found["gone"].progress.step, found["gone"].progress.seconds_left) == (3, None)
    assert json.loads(json.dumps(found["done"].told()))["metrics"] == {"loss": 0.5}
    assert runs(tmp_path / "nowhere") == []


def test_looking_never_keeps_a_run_from_its_folder(run_in, tmp_path):
    """A look holds the lock for a moment, which whoever begins to train waits for."""
    folder = run_in("a")
    descriptor = os.open(folder / ".lock", os.O_CREAT | os.O_RDWR)
    import fcntl
    import threading

    fcntl.flock(descriptor, fcntl.LOCK_SH)
    threading.Timer(0.03, os.close, [descriptor]).start()
    with owned(folder):
        assert runs(tmp_path / "runs")[0].state == "running"


def test_events_come_piece_by_piece(tmp_path):
    file = tmp_path / "events.jsonl"
    assert events_since(tmp_path) == ([], 0)
    lines = [json.dumps({"step": n, "loss": 1.5 * n}) + "\n" for n in range(1, 7)]
    file.write_text(lines[0] + lines[1] + lines[2][:9])
    events, offset = events_since(tmp_path)
    assert [event["step"] for event in events] == [1, 2]
    assert events_since(tmp_path, offset) == ([], offset)  # the torn line waits
    with file.open("a") as stream:
        stream.write(lines[2][9:] + "not JSON\n" + "[]\n" + '{"step": "x"}\n' + lines[3])
    events, offset = events_since(tmp_path, offset)
    assert [event["step"] for event in events] == [3, 4]
    # A run that went on from step 2: the file is shorter, or its lines lie elsewhere.
    file.write_text("".join(lines[:2]))
    assert [event["step"] for event in events_since(tmp_path, offset)[0]] == [1, 2]
    file.write_text("".join(lines[:2]) + json.dumps({"step": 3, "loss": 1, "more": "x" * 200}))
    with file.open("a") as stream:
        stream.write("\n" + lines[3])
    assert [event["step"] for event in events_since(tmp_path, offset)[0]] == [1, 2, 3, 4]


def test_long_histories_come_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(history, "MOST", 1000)
    lines = [json.dumps({"step": n, "loss": 1.0}) + "\n" for n in range(200)]
    (tmp_path / "events.jsonl").write_text("".join(lines))
    found, offset = [], 0
    while (part := events_since(tmp_path, offset))[0]:
        assert part[1] - offset <= 1000
        found, offset = found + part[0], part[1]
    assert [event["step"] for event in found] == list(range(200))


def test_comparing_shows_what_differs(run_in):
    one = run_in("a", metrics={"loss": 0.5, "eval_loss": float("nan")}, lora__rank=2)
    two = run_in("b", metrics={"loss": 0.25, "seconds": 3}, train__lr=0.5, lora__rank=4)
    found = compare([one, two])
    assert found.names == ["a", "b"]
    assert found.fields == {"lora.rank": [2, 4], "train.lr": [1e-3, 0.5]}
    assert found.metrics == {"loss": [0.5, 0.25], "eval_loss": [None, None], "seconds": [None, 3]}
    json.dumps(found.told(), allow_nan=False)
    assert compare([one, one]).fields == {}
    with pytest.raises(QueueError, match="holds no run"):
        compare([one, one.parent])


def test_polling_reads_only_what_has_changed(run_in, quick_queue, recipe_to, tmp_path, monkeypatch):
    for number in range(50):
        run_in(f"r{number}", metrics=None if number % 5 else {"loss": 1.0}, step=200)
    jobs = [quick_queue.add(recipe_to(f"q{number}")) for number in range(20)]

    def poll() -> float:
        began = time.perf_counter()
        assert len(runs(tmp_path / "runs")) == 50
        assert len(quick_queue.jobs()) == 20
        return time.perf_counter() - began

    poll()
    assert min(poll() for _ in range(5)) < 0.1  # some 10 ms; the rest is for busy machines
    read = []
    for kept in (history._identity, history._metrics, history.last_logged):
        original = kept.read
        monkeypatch.setattr(kept, "read", lambda path, f=original: read.append(path) or f(path))
    poll()
    assert read == []
    metrics = tmp_path / "runs" / "r1" / "metrics.json"
    metrics.write_text("{}")
    quick_queue.cancel(jobs[3].id)
    poll()
    assert read == [metrics]
    assert quick_queue.job(jobs[3].id).state == "cancelled"
