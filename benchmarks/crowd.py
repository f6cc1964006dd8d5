"""A folder of the page with many adapters and runs, all of them whole, made from one small run."""

from __future__ import annotations

import fcntl
import json
import math
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from lorakit.demo.recipe import demo_recipe
from lorakit.demo.rows import rows
from lorakit.jobs.queue import QUEUE
from lorakit.jobs.record import Filed, Record, filed
from lorakit.library.edit import edit
from lorakit.library.read import read_entry
from lorakit.train.folder import ADAPTER, EVENTS, IDENTITY, METRICS
from lorakit.train.recipe import make_recipe
from lorakit.train.run import run

STEPS = 500  # in the events of each run
WORDS = ("dragon", "recipe", "poem", "letter", "ticket", "haiku", "menu", "riddle", "story")
PICTURED = 5  # every so many have a preview


def build(work: Path, *, adapters: int, runs: int, rows_of_data: int) -> None:
    """Fill a folder that is not there yet."""
    trained = _train(work.parent / "trained")
    for number in range(runs):
        _run(work / "runs" / f"run-{number:03d}", trained, number)
    for number in range(adapters):
        _adapter(work / "adapters" / f"{WORDS[number % 9]}-{number:03d}", trained, number)
    (work / "data").mkdir(parents=True, exist_ok=True)
    some = [{k: own[k] for k in ("prompt", "completion")} for own in rows(1000, seed=0)]
    lines = [json.dumps(own) + "\n" for own in some]
    with (work / "data" / "many.jsonl").open("w", encoding="utf-8") as out:
        out.writelines(lines[number % len(lines)] for number in range(rows_of_data))


@contextmanager
def growing(work: Path) -> Iterator[Growing]:
    """Another job that runs for as long as the block does."""
    source = work / "runs" / "run-000"
    folder = work / "runs" / "going-on"
    shutil.copytree(source, folder)
    (folder / METRICS).unlink()
    (folder / EVENTS).write_text("".join(event(step, 10 * STEPS) for step in range(1, STEPS + 1)))
    job = _job(folder, 9_000, ended=False)
    with job.lock.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield Growing(folder, job.record.id)
    job.delete()
    shutil.rmtree(folder)


class Growing:
    """A run to whose events steps can be added."""

    def __init__(self, folder: Path, id: str) -> None:
        self.folder, self.id, self.step = folder, id, STEPS

    def grow(self, steps: int = 1) -> None:
        """Write some more steps, as training does."""
        with (self.folder / EVENTS).open("a", encoding="utf-8") as out:
            for _ in range(steps):
                self.step += 1
                out.write(event(self.step, 10 * STEPS))


def event(step: int, steps: int) -> str:
    """A line of the events, and with every hundredth that of an evaluation."""
    loss = 1 + 6 * math.exp(-step / 100) + 0.1 * math.sin(step)
    said = {
        "step": step, "steps": steps, "epoch": step / 20, "loss": loss, "lr": 2e-4,
        "grad_norm": 1.5, "tokens_per_second": 2800.0, "seconds_left": 0.1 * (steps - step),
    }  # fmt: skip
    held = {"step": step, "eval_loss": loss + 0.1, "eval_token_accuracy": 0.5}
    lines = [said, held] if step % 100 == 0 else [said]
    return "".join(json.dumps(own) + "\n" for own in lines)


def _train(folder: Path) -> Path:
    raw = demo_recipe(folder / "data", str(folder / "run")).model_dump()
    raw["lora"] |= {"rank": 2, "targets": "attention"}
    raw["train"] |= {"steps": 2, "batch_size": 2, "eval_every": None, "save_every": None}
    raw["data"] |= {"eval": None}
    run(make_recipe(raw), quiet=True)
    return folder / "run"


def _run(folder: Path, trained: Path, number: int) -> None:
    shutil.copytree(trained, folder)
    identity = json.loads((folder / IDENTITY).read_text())
    identity["recipe"]["output"] = str(folder)
    identity["recipe"]["train"]["steps"] = STEPS
    (folder / IDENTITY).write_text(json.dumps(identity))
    (folder / "recipe.yaml").write_text(make_recipe(identity["recipe"]).dump())
    (folder / EVENTS).write_text("".join(event(step, STEPS) for step in range(1, STEPS + 1)))
    (folder / METRICS).write_text(json.dumps({"step": STEPS, "loss": 1.1, "eval_loss": 1.2}))
    _job(folder, number + 1, ended=True)


def _job(folder: Path, number: int, *, ended: bool) -> Filed:
    recipe = json.loads((folder / IDENTITY).read_text())["recipe"] | {"output": str(folder)}
    queue = folder.parent / QUEUE
    queue.mkdir(exist_ok=True)
    now, id = time.time(), f"{number:06x}"
    record = Record(
        id=id, number=number, title=folder.name, folder=str(folder.parent), recipe=recipe,
        place=number, added=now, attempts=1, began=now, ended=now if ended else None,
        exit_code=0 if ended else None,
    )  # fmt: skip
    job = filed(queue / f"{number:04d}-{id}.json", record)
    job.recipe_file.write_text(job.recipe.dump())
    job.printed.write_text("")
    return job.write()


def _adapter(folder: Path, trained: Path, number: int) -> None:
    shutil.copytree(trained / ADAPTER, folder)
    word, other = WORDS[number % 9], WORDS[(number // 9) % 9]
    if number % PICTURED == 0:
        Image.effect_noise((512, 512), number % 100).save(folder / "preview.png")
    edit(
        read_entry(folder, root=folder.parent), title=f"The {word} of number {number}",
        tags=[word, other], triggers=[f"{word}{number}"],
        description=f"Writes a {word} in the manner of a {other}, as number {number} does.",
    )  # fmt: skip
    when = time.time() - 60 * number
    os.utime(folder / "adapter_model.safetensors", (when, when))
