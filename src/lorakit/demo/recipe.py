"""The demo's rows as files, and the recipe that learns them."""

from __future__ import annotations

import json
from pathlib import Path

from lorakit.core.folder import write_whole
from lorakit.demo import base_folder
from lorakit.demo.rows import rows
from lorakit.train.recipe import Recipe, make_recipe

TRAINING_ROWS = 2400
HELD_OUT_ROWS = 200


def demo_recipe(folder: Path, output: str, *, model: str | None = None) -> Recipe:
    """A recipe on the tiny base for training and held-out rows, which are written to a folder.

    Files that are there stay as they are: somebody may read them, or have changed them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, count, held_out in (
        ("train", TRAINING_ROWS, False), ("held_out", HELD_OUT_ROWS, True),
    ):  # fmt: skip
        lines = [
            json.dumps({"attributes": row["prompt"].strip(), "description": row["completion"]})
            for row in rows(count, seed=2 if held_out else 0, held_out=held_out)
        ]
        _keep(folder / f"{name}.jsonl", ("\n".join(lines) + "\n").encode())
    return make_recipe(
        {
            "model": model or str(base_folder()),
            "task": "completion",
            "data": {
                "train": str(folder / "train.jsonl"), "eval": str(folder / "held_out.jsonl"),
                "prompt": "{attributes}\n", "completion": "{description}",
            },
            "lora": {"rank": 8, "alpha": 16},
            "train": {
                "steps": 200, "batch_size": 16, "lr": 5e-3, "schedule": "cosine", "seed": 0,
                "eval_every": 50, "save_every": 100, "device": "cpu",
            },
            "output": output,
        }
    )  # fmt: skip


def _keep(file: Path, content: bytes) -> None:
    if not file.exists():
        write_whole(file, content)
