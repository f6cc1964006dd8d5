"""A tiny random base that shares the demo's tokenizer, and a recipe that takes seconds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, set_seed

from families import CONFIGS
from lorakit.demo import base_folder
from lorakit.demo.rows import rows
from lorakit.models.load import load_tokenizer
from lorakit.train.recipe import Recipe, make_recipe


@pytest.fixture(scope="session")
def base(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("base")
    set_seed(0)
    config = CONFIGS["llama"]()
    config.vocab_size, config.pad_token_id = len(load_tokenizer(str(base_folder()))), 0
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(base_folder() / name, folder / name)
    return str(folder)


@pytest.fixture
def recipe(base, tmp_path) -> Recipe:
    return small_recipe(base, tmp_path)


def small_recipe(base: str, folder: Path) -> Recipe:
    for name, count, seed in (("train", 40, 0), ("eval", 8, 1)):
        lines = [
            json.dumps({"prompt": row["prompt"], "completion": row["completion"]})
            for row in rows(count, seed=seed)
        ]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    return make_recipe({
        "model": base, "task": "completion",
        "data": {
            "train": str(folder / "train.jsonl"), "eval": str(folder / "eval.jsonl"),
            "max_length": 32,
        },
        "lora": {"rank": 2, "alpha": 4, "targets": ["q", "v"]},
        "train": {"steps": 4, "batch_size": 2, "lr": 1e-2, "device": "cpu"},
        "output": str(folder / "run"),
    })  # fmt: skip
