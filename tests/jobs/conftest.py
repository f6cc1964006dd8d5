"""A queue whose every process is ended with the test, and recipes for it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from seen import end_all

from lorakit.demo import base_folder
from lorakit.demo.rows import rows
from lorakit.jobs import processes
from lorakit.jobs.queue import Queue
from lorakit.train.recipe import Recipe, make_recipe


@pytest.fixture
def queue(tmp_path):
    """A queue that trains in earnest."""
    found = Queue(tmp_path / "runs" / ".queue")
    yield found
    end_all(found.folder)


@pytest.fixture
def quick_queue(queue, monkeypatch):
    """A queue whose trainings take no time: see stand_in.py."""
    program = str(Path(__file__).with_name("stand_in_worker.py"))
    monkeypatch.setattr(processes, "WORKER", (sys.executable, program))
    return queue


@pytest.fixture
def recipe_to(tmp_path):
    """A function that makes a recipe which writes to a folder of this name."""
    lines = [
        json.dumps({"prompt": row["prompt"], "completion": row["completion"]})
        for row in rows(40, seed=0)
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines) + "\n")

    def make(name: str, **changes) -> Recipe:
        raw = {
            "model": str(base_folder()), "task": "completion",
            "data": {"train": str(tmp_path / "rows.jsonl"), "max_length": 48},
            "lora": {"rank": 2, "targets": "attention"},
            "train": {"steps": 60, "batch_size": 4, "save_every": 5, "lr": 1e-3, "device": "cpu"},
            "output": str(tmp_path / "runs" / name),
        }  # fmt: skip
        for dotted, value in changes.items():
            part, _, field = dotted.rpartition("__")
            (raw[part] if part else raw)[field] = value
        return make_recipe(raw)

    return make
