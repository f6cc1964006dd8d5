"""The queue with trainings that take no time: order, one worker, ends of every kind, bad files."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml
from seen import in_state, until

import lorakit
from lorakit.core.errors import DataError, ModelError, QueueError, SaveError
from lorakit.jobs.lock import Holder, born, held, holder, sign, take
from lorakit.jobs.processes import environment, interrupt, kill
from lorakit.jobs.queue import WORKER
from lorakit.jobs.worker import Worker
from lorakit.train.recipe import read_recipe


def times_begun(folder: Path) -> int:
    return len((folder / "log.txt").read_text().splitlines())


def kill_worker(queue) -> None:
    found = until(lambda: holder(queue.folder / WORKER))
    os.kill(found.pid, signal.SIGKILL)
    until(lambda: not queue.works())


def running(queue, job):
    """The job when its process is so far that it hears what it is told."""
    until(lambda: (job.output / "events.jsonl").exists())
    return in_state(queue, job.id, "running")


def test_what_is_added_waits_with_its_resolved_recipe(quick_queue, recipe_to):
    recipe = recipe_to("a")
    first = quick_queue.add(recipe, title="  one\n\x1b[31mtwo ")
    second = quick_queue.add(recipe_to("b"))
    assert read_recipe(first.recipe_file) == recipe
    assert yaml.safe_load(first.recipe_file.read_text()) == first.recipe
    assert (first.title, second.title) == ("one [31mtwo", "b")
    assert [job.id for job in quick_queue.jobs()] == [second.id, first.id]
    assert [job.position for job in quick_queue.jobs()] == [2, 1]
    assert quick_queue.job("1") == quick_queue.job(first.id) == quick_queue.job(f"0001-{first.id}")
    told = json.loads(json.dumps(first.told(), allow_nan=False))
    assert (told["state"], told["output"]) == ("waiting", str(first.output))
    assert not first.output.exists()
    assert not quick_queue.works()


def test_what_a_caller_does_to_a_job_changes_no_other_look(quick_queue, recipe_to):
    job = quick_queue.add(recipe_to("a"))
    job.recipe["train"]["steps"] = 7
    assert quick_queue.job(job.id).recipe["train"]["steps"] == 60


MISTAKES = [
    ({"output": "taken"}, SaveError, "holds a run"),
    ({"output": "full"}, SaveError, "holds no run"),
    ({"output": "runs/first"}, SaveError, "is taken: job 1"),
    ({"output": "runs/first/inner"}, SaveError, "is taken: job 1"),
    ({"output": "runs"}, SaveError, "holds no run"),
    ({"output": "rows.jsonl/run"}, SaveError, "no folder of yours"),
    ({"output": "runs/.queue/mine"}, SaveError, "own folder"),
    ({"data__train": "rosw.jsonl"}, DataError, "Did you mean 'rows.jsonl'"),
    ({"data__train": "bad.jsonl"}, DataError, "bad.jsonl, line 2"),
    ({"model": "./nowhere"}, ModelError, "is not there"),
    ({"output": "sweep", "sweep": {"lora.rank": [1, 2]}}, SaveError, "rank=2 already holds a run"),
]


@pytest.mark.parametrize(("changes", "error", "message"), MISTAKES, ids=lambda v: str(v)[:40])
def test_mistakes_are_said_at_once(
    changes, error, message, quick_queue, recipe_to, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    quick_queue.add(recipe_to("first"))
    for name in ("taken", "full", "sweep/rank=2"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("taken", "sweep/rank=2"):
        (tmp_path / name / "run.json").write_text("{}")
    (tmp_path / "full" / "letter.txt").write_text("")
    lines = (tmp_path / "rows.jsonl").read_text().splitlines()
    (tmp_path / "bad.jsonl").write_text(f"{lines[0]}\n" + '{"prompt": 1}\n')
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(error, match=message):
        quick_queue.add(recipe_to("b", **changes))
    assert sorted(tmp_path.rglob("*")) == before


def test_one_of_many_gets_the_output(quick_queue, recipe_to):
    ended: list[object] = []

    def add() -> None:
        try:
            ended.append(quick_queue.add(recipe_to("a")).number)
        except SaveError as error:
            ended.append(error)

    threads = [threading.Thread(target=add) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [own for own in ended if isinstance(own, int)] == [1]
    assert sum("is taken: job 1" in str(own) for own in ended) == 7
    assert len(quick_queue.jobs()) == 1


def test_jobs_go_one_after_the_other_and_the_worker_goes(quick_queue, recipe_to):
    names = ("quick-a", "quick-b", "quick-c")
    jobs = [quick_queue.add(recipe_to(name)) for name in names]
    quick_queue.move(jobs[2].id)
    assert [job.position for job in reversed(quick_queue.jobs())] == [2, 3, 1]
    quick_queue.move(jobs[0].id, first=False)
    assert quick_queue.start()
    done = [in_state(quick_queue, job.id, "done") for job in jobs]
    order = sorted(done, key=lambda job: job.began)
    assert [job.title for job in order] == ["quick-c", "quick-b", "quick-a"]
    assert all(one.ended <= two.began for one, two in itertools.pairwise(order))
    until(lambda: not quick_queue.works())
    assert [(job.exit_code, job.error) for job in quick_queue.jobs()] == [(0, None)] * 3
    assert not quick_queue.start()
    with pytest.raises(QueueError, match="Only what waits can be moved"):
        quick_queue.move(jobs[0].id)


def test_two_at_once(quick_queue, recipe_to):
    jobs = [quick_queue.add(recipe_to(f"slow-{n}")) for n in range(3)]
    quick_queue.start(workers=2)
    for job in jobs[:2]:
        running(quick_queue, job)
    assert quick_queue.job(jobs[2].id).state == "waiting"
    progress = quick_queue.job(jobs[0].id).progress
    assert (progress.step >= 1, progress.steps, progress.seconds_left) == (True, 300, 9.0)
    quick_queue.start(workers=3)  # to the worker that is there
    running(quick_queue, jobs[2])
    assert len((quick_queue.folder / "workers.txt").read_text().splitlines()) == 1
    with pytest.raises(QueueError, match="at least one"):
        quick_queue.start(workers=0)


def test_one_worker_however_many_start_it(quick_queue, recipe_to):
    jobs = [quick_queue.add(recipe_to(f"short-{n}")) for n in range(2)]
    code = (
        "import sys, lorakit.jobs.processes as p; from lorakit.jobs.queue import Queue\n"
        "p.WORKER = (sys.executable, sys.argv[2])\n"
        "q = Queue(sys.argv[1]); print('ready', flush=True); input()\n"
        "for _ in range(5): q.start()"
    )
    program = str(Path(__file__).with_name("stand_in_worker.py"))
    others = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(quick_queue.folder), program], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )
        for _ in range(2)
    ]  # fmt: skip
    try:
        for other in others:
            assert other.stdout.readline() == "ready\n"
        threads = [threading.Thread(target=quick_queue.start) for _ in range(10)]
        for other in others:
            other.stdin.write("\n")
            other.stdin.flush()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [other.wait(30) for other in others] == [0, 0]
    finally:
        for other in others:
            other.kill()
            other.communicate()
    assert len((quick_queue.folder / "workers.txt").read_text().splitlines()) == 1
    done = [in_state(quick_queue, job.id, "done") for job in jobs]
    assert done[0].ended <= done[1].began
    assert [times_begun(job.output) for job in jobs] == [1, 1]


def test_cancel_while_it_waits_and_resume(quick_queue, recipe_to):
    job = quick_queue.add(recipe_to("quick"))
    assert quick_queue.cancel(job.id).state == "cancelled"
    assert not quick_queue.start()
    again = quick_queue.add(recipe_to("quick"))  # the folder is free again
    with pytest.raises(SaveError, match="is taken"):
        quick_queue.resume(job.id)
    quick_queue.remove(again.id)
    assert quick_queue.resume(job.id).state == "waiting"
    quick_queue.start()
    done = in_state(quick_queue, job.id, "done")
    assert "--resume" not in (job.output / "log.txt").read_text()
    for act in (quick_queue.cancel, quick_queue.resume):
        with pytest.raises(QueueError, match="is done"):
            act(done.id)


def test_cancel_while_it_runs_is_gentle_and_it_can_go_on(quick_queue, recipe_to):
    job = quick_queue.add(recipe_to("twice"))
    quick_queue.start()
    running(quick_queue, job)
    assert quick_queue.cancel(job.id).state in ("running", "cancelled")
    ended = in_state(quick_queue, job.id, "cancelled")
    assert "Stopped after step" in job.printed.read_text()
    until(lambda: quick_queue.job(job.id).exit_code == 130)
    assert ended.error is None
    assert ended.resumable
    assert quick_queue.resume(job.id).state == "waiting"
    quick_queue.start()
    assert in_state(quick_queue, job.id, "done").attempts == 2
    assert (job.output / "log.txt").read_text().splitlines()[1].endswith("--quiet --resume")


def test_a_training_hears_ctrl_c_though_who_started_it_did_not(quick_queue, recipe_to):
    """Ignored signals are handed down: here as by a server that a script put behind itself."""
    job = quick_queue.add(recipe_to("early"))  # leaves SIGINT as it finds it
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        quick_queue.start()
    finally:
        signal.signal(signal.SIGINT, previous)
    running(quick_queue, job)
    quick_queue.cancel(job.id)
    assert in_state(quick_queue, job.id, "cancelled", seconds=10).ended


def test_a_training_that_is_stopped_by_hand_did_not_fail(quick_queue, recipe_to):
    job = quick_queue.add(recipe_to("slow"))
    quick_queue.start()
    running(quick_queue, job)
    assert interrupt(job.printed.with_suffix(".lock"))
    until(lambda: quick_queue.job(job.id).exit_code == 130)
    assert quick_queue.job(job.id).state == "interrupted"
    assert "SIGINT" in quick_queue.job(job.id).error


@pytest.mark.parametrize("worker", [True, False], ids=["by the worker", "by a second call"])
def test_what_does_not_stop_is_ended_after_the_grace(worker, quick_queue, recipe_to):
    job = quick_queue.add(recipe_to("deaf"))
    quick_queue.start(grace=1.5)
    running(quick_queue, job)
    if not worker:
        kill_worker(quick_queue)
    assert quick_queue.cancel(job.id).stopping
    assert quick_queue.cancel(job.id).state == "running"  # not yet
    if worker:
        assert in_state(quick_queue, job.id, "cancelled").ended
        until(lambda: quick_queue.job(job.id).exit_code == -signal.SIGKILL)
    else:
        until(lambda: ended_by_calls(quick_queue, job))


def ended_by_calls(queue, job) -> bool:
    if queue.job(job.id).state == "running":
        queue.cancel(job.id)
    return queue.job(job.id).state == "cancelled"


def test_a_process_that_is_killed_is_interrupted_and_resumes(quick_queue, recipe_to):
    job = quick_queue.add(recipe_to("twice"))
    quick_queue.start()
    running(quick_queue, job)
    assert kill(job.printed.with_suffix(".lock"))
    ended = in_state(quick_queue, job.id, "interrupted")
    assert "Resume it" in ended.error
    until(lambda: quick_queue.job(job.id).exit_code == -signal.SIGKILL)
    assert "SIGKILL" in quick_queue.job(job.id).error
    quick_queue.resume(job.id)
    quick_queue.start()
    assert in_state(quick_queue, job.id, "done").attempts == 2


def test_a_worker_that_is_killed_leaves_its_training_and_the_next_waits_for_it(
    quick_queue, recipe_to
):
    jobs = [quick_queue.add(recipe_to(name)) for name in ("short", "quick")]
    quick_queue.start()
    running(quick_queue, jobs[0])
    kill_worker(quick_queue)
    assert quick_queue.job(jobs[0].id).state == "running"
    quick_queue.start()
    done = [in_state(quick_queue, job.id, "done") for job in jobs]
    assert done[0].exit_code is None  # no one was there to see it
    assert done[0].ended <= done[1].began
    assert [times_begun(job.output) for job in jobs] == [1, 1]


def test_without_any_worker_the_facts_say_how_it_ended(quick_queue, recipe_to):
    jobs = [quick_queue.add(recipe_to(name)) for name in ("short", "slow")]
    quick_queue.start(workers=2)
    for job in jobs:
        running(quick_queue, job)
    kill_worker(quick_queue)
    assert in_state(quick_queue, jobs[0].id, "done").ended
    assert kill(jobs[1].printed.with_suffix(".lock"))
    ended = in_state(quick_queue, jobs[1].id, "interrupted")
    assert "told no end" in ended.error
    assert ended.ended >= ended.began


def test_stopping_the_worker_stops_what_it_trains_gently(quick_queue, recipe_to):
    jobs = [quick_queue.add(recipe_to(name)) for name in ("slow", "quick")]
    quick_queue.start()
    running(quick_queue, jobs[0])
    assert quick_queue.stop()
    ended = in_state(quick_queue, jobs[0].id, "interrupted")
    assert "with the queue's worker" in ended.error
    assert "Stopped after step" in jobs[0].printed.read_text()
    until(lambda: not quick_queue.works())
    assert not quick_queue.stop()
    assert quick_queue.job(jobs[1].id).state == "waiting"


def test_starting_takes_back_that_the_worker_is_to_stop(quick_queue, recipe_to):
    deaf, quick = (quick_queue.add(recipe_to(name)) for name in ("deaf", "quick"))
    quick_queue.start(grace=1.0)
    running(quick_queue, deaf)
    quick_queue.stop()
    until(lambda: quick_queue.job(deaf.id).stopping)
    quick_queue.start()
    assert in_state(quick_queue, deaf.id, "interrupted")
    assert in_state(quick_queue, quick.id, "done")
    assert len((quick_queue.folder / "workers.txt").read_text().splitlines()) == 1


def test_what_fails_says_why_in_one_line(quick_queue, recipe_to, tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    with monkeypatch.context() as patch:
        patch.chdir(gone)
        lost = quick_queue.add(recipe_to("quick"))
    shutil.rmtree(gone)
    jobs = [quick_queue.add(recipe_to(name)) for name in ("refused", "crash")]
    quick_queue.start()
    lost, refused, crash = (in_state(quick_queue, j.id, "failed") for j in (lost, *jobs))
    assert "No process could be started" in lost.error
    assert refused.error == "This cannot be trained. Choose another."
    until(lambda: quick_queue.job(refused.id).exit_code == 2)
    assert crash.error.startswith("ValueError: a mistake of ours")
    assert str(crash.printed) in crash.error
    assert "Traceback" in crash.printed.read_text()
    assert "Traceback" not in crash.error
    until(lambda: not quick_queue.works())
    quick_queue.resume(refused.id)
    assert quick_queue.job(refused.id).error is None
    quick_queue.remove(crash.id)
    assert not crash.printed.exists()


def test_a_job_that_fails_is_not_done_by_what_another_training_left(quick_queue, recipe_to):
    job = quick_queue.add(recipe_to("refused"))
    job.output.mkdir(parents=True)
    (job.output / "metrics.json").write_text("{}")
    os.utime(job.output / "metrics.json", (1, 1))
    quick_queue.start()
    until(lambda: quick_queue.job(job.id).exit_code == 2)
    found = quick_queue.job(job.id)
    assert (found.state, found.error) == ("failed", "This cannot be trained. Choose another.")


def test_what_is_removed_leaves_its_run(quick_queue, recipe_to):
    job, slow = (quick_queue.add(recipe_to(name)) for name in ("quick", "slow"))
    quick_queue.start()
    in_state(quick_queue, job.id, "done")
    quick_queue.remove(job.id)
    assert (job.output / "metrics.json").exists()
    assert not [path for path in quick_queue.folder.iterdir() if job.id in path.name]
    running(quick_queue, slow)
    with pytest.raises(QueueError, match="Cancel it first"):
        quick_queue.remove(slow.id)
    with pytest.raises(QueueError, match=f"There are 2 .{slow.id}"):
        quick_queue.job("../../rows")


def test_a_sweep_is_one_job(quick_queue, recipe_to):
    job = quick_queue.add(recipe_to("sweep", sweep={"lora.rank": [1, 2], "train.seed": [0, 1]}))
    assert [run.name for run in job.runs] == [
        f"rank={rank},seed={seed}" for rank in (1, 2) for seed in (0, 1)
    ]
    with pytest.raises(SaveError, match="is taken"):
        quick_queue.add(recipe_to("sweep/rank=1,seed=0"))


def bad_files(good: dict) -> dict[str, tuple[bytes, str]]:
    """Contents of files that are no jobs, by name, and a word of why."""

    def one(**changes) -> bytes:
        return json.dumps(good | {"number": 9, "id": "abcdef"} | changes).encode()

    return {
        "0009-abcdef.json": (b"{", "EOF"),
        "0010-abcdef.json": (one(number=10, surprise=1), "surprise: Extra"),
        "0011-abcdef.json": (one(number=10), "unlike its name"),
        "0012-abcdef.json": (one(number=12, folder="../.."), "absolute path"),
        "0013-abcdef.json": (one(number=13, recipe="/etc/passwd"), "recipe: Input should be"),
        "0014-abcdef.json": (one(number=14, recipe={"model": "x"}), "task is missing"),
        "0015-abcdef.json": (one(number=15, title="\x1b[2J"), "one line that can be printed"),
        "0016-abcdef.json": (one(number=16, began="soon"), "began: Input should be"),
        "0017-abcdef.json": (b"\xff\xfe", "JSON"),
        "0018-abcdef.json": (b"[" * 100_000, "recursion"),
        "0019-abcdef.json": (b" " * (1 << 20) + one(number=19), "larger than any"),
        "notes.json": (b"{}", "name is not that of a job"),
    }


def test_files_that_are_no_jobs_are_told_and_left_alone(quick_queue, recipe_to, tmp_path):
    job = quick_queue.add(recipe_to("quick"))
    (file,) = quick_queue.folder.glob("0001-*.json")
    bad = bad_files(json.loads(file.read_bytes()))
    for name, (content, _) in bad.items():
        (quick_queue.folder / name).write_bytes(content)
    (tmp_path / "outside.json").write_bytes(file.read_bytes())
    (quick_queue.folder / "0020-abcdef.json").symlink_to(tmp_path / "outside.json")
    (quick_queue.folder / "0021-abcdef.json").mkdir()
    (quick_queue.folder / "settings.json").write_text("[]")
    damaged = quick_queue.damaged()
    assert damaged.keys() == {*bad, "0020-abcdef.json", "0021-abcdef.json"}
    for name, (_, why) in bad.items():
        assert why in damaged[name], name
    assert "no plain file" in damaged["0020-abcdef.json"]
    assert [own.id for own in quick_queue.jobs()] == [job.id]
    with pytest.raises(QueueError, match=r"0010-abcdef.json is no job: surprise"):
        quick_queue.cancel("0010")
    assert quick_queue.add(recipe_to("other")).number == 22
    quick_queue.start()
    in_state(quick_queue, job.id, "done")
    assert quick_queue.damaged() == damaged


def test_a_number_that_is_another_process_by_now_is_not_signalled(tmp_path):
    me = os.getpid()
    assert Holder(me, born(me)).lives()
    assert not Holder(me, "1").lives()
    descriptor = take(tmp_path / "lock")
    try:
        assert held(tmp_path / "lock")
        assert take(tmp_path / "lock") is None
        os.pwrite(descriptor, f"{me} 1".encode(), 0)
        assert not interrupt(tmp_path / "lock")
        assert not kill(tmp_path / "lock")
        sign(descriptor)
        assert holder(tmp_path / "lock") == Holder(me, born(me))
    finally:
        os.close(descriptor)
    assert holder(tmp_path / "lock") is None


def test_a_worker_whose_job_was_removed_goes_all_the_same(quick_queue, recipe_to):
    quick_queue.add(recipe_to("a"))
    quick_queue.cancel("1")
    worker = Worker(quick_queue.folder, ())
    child = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
    worker.children["abcdef"] = child
    assert worker.turn()
    child.communicate(b"\n")
    assert not worker.turn()


def test_a_process_begins_with_our_package_wherever_it_does(
    queue, recipe_to, tmp_path, monkeypatch
):
    """Neither what lies in the user's folder nor a relative PYTHONPATH changes what it imports."""
    folder = tmp_path / "work"
    folder.mkdir()
    package = Path(lorakit.__file__).parents[1]
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONPATH", f"{os.path.relpath(package)}{os.pathsep}")
    assert environment()["PYTHONPATH"] == str(package)
    if sys.version_info >= (3, 11):
        (folder / "yaml.py").write_text("raise SystemExit('the wrong one')")
    job = queue.add(recipe_to("a"))
    job.recipe_file.write_text("model: [")
    queue.start()
    assert "is not valid YAML" in in_state(queue, job.id, "failed").error
