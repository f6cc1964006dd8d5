"""A small base in a folder and small rows, for runs that take seconds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM, set_seed

from families import CONFIGS
from lorakit.demo import base_folder
from lorakit.demo.rows import rows
from lorakit.models.load import load_tokenizer
from lorakit.train.recipe import Recipe, make_recipe


@pytest.fixture(scope="session")
def bases(tmp_path_factory) -> dict[str, str]:
    """Folders of tiny random models that share the demo's tokenizer: decoder, encoder, both."""
    size = len(load_tokenizer(str(base_folder())))
    autos = {
        "llama": AutoModelForCausalLM,
        "bert": AutoModelForMaskedLM,
        "t5": AutoModelForSeq2SeqLM,
    }
    found = {}
    for family, auto in autos.items():
        folder = tmp_path_factory.mktemp(family)
        set_seed(0)
        config = CONFIGS[family]()
        config.vocab_size, config.pad_token_id = size, 0
        auto.from_config(config).save_pretrained(folder)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(base_folder() / name, folder / name)
        found[family] = str(folder)
    return found


@pytest.fixture
def recipe_for(bases, tmp_path):
    """A function that makes a recipe for a small run, with dotted fields set over it."""

    def make(task: str = "completion", family: str = "llama", **changes) -> Recipe:
        for name, count, seed in (("train", 48, 0), ("eval", 12, 1)):
            if not (tmp_path / f"{name}.jsonl").exists():
                write_rows(tmp_path / f"{name}.jsonl", count, seed)
        raw = {
            "model": bases[family],
            "task": task,
            "data": {
                "train": str(tmp_path / "train.jsonl"), "eval": str(tmp_path / "eval.jsonl"),
                "max_length": 48,
            },
            "lora": {"rank": 2, "alpha": 4, "targets": "attention", "dropout": 0.1},
            "train": {
                "steps": 12, "batch_size": 4, "lr": 1e-2, "save_every": 2, "eval_every": 4,
                "device": "cpu",
            },
            "output": str(tmp_path / "run"),
        }  # fmt: skip
        for dotted, value in changes.items():
            part, _, name = dotted.rpartition("__")
            (raw[part] if part else raw)[name] = value
        return make_recipe(raw)

    return make


def write_rows(file: Path, count: int, seed: int) -> None:
    """Rows that fit every task."""
    lines = []
    for row in rows(count, seed=seed):
        kind = row["attributes"]["kind"]
        messages = [
            {"role": "user", "content": row["prompt"]},
            {"role": "assistant", "content": row["completion"]},
        ]
        lines.append({
            "prompt": row["prompt"], "completion": row["completion"], "text": row["completion"],
            "label": "early" if kind < "lion" else "late", "score": len(kind), "messages": messages,
        })  # fmt: skip
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
