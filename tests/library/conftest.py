"""One small adapter and one run, copied for each test that changes them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from shelves import kohya

import lorakit as lk
from families import build, randomise

RUN = {
    "recipe": {
        "model": "org/base", "task": "chat",
        "lora": {"rank": 4, "alpha": 8, "targets": ["q", "v"]},
        "train": {"steps": 30, "lr": 0.01, "batch_size": 4},
    },
    "data": {"train": {"rows.jsonl": "ab" * 32}},
    "metrics": {"step": 30, "eval_loss": 1.25, "eval_bleu": 31.5},
}  # fmt: skip


@pytest.fixture(scope="session")
def made(tmp_path_factory) -> Path:
    """A PEFT folder with a manifest, as a run leaves it."""
    model = build("llama")
    lk.inject(model, lk.plan(model, ["q", "v"], 4), name="made", method=lk.LoRA(alpha=8))
    randomise(model, "made")
    model.name_or_path = "org/base"
    return lk.save(model, tmp_path_factory.mktemp("made") / "made", name="made", run=RUN)


@pytest.fixture
def root(tmp_path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture
def poet(made, root) -> Path:
    """An adapter's folder below the root."""
    return Path(shutil.copytree(made, root / "poet"))


@pytest.fixture
def run(made, root) -> Path:
    """A run's folder below the root."""
    folder = root / "runs" / "e2e"
    shutil.copytree(made, folder / "adapter")
    shutil.copytree(made, folder / "checkpoints" / "checkpoint-10")
    (folder / "recipe.yaml").write_text("model: org/base\ntask: chat\n")
    (folder / "metrics.json").write_text(json.dumps({"eval_loss": 9.0}))
    return folder


@pytest.fixture
def style(root) -> Path:
    """A file as kohya's scripts leave it below the root, with a picture."""
    return kohya(root / "style.safetensors")
