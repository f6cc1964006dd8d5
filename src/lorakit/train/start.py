"""What a recipe's `lora.init` starts from: the base's weights, or some of the training rows."""

from __future__ import annotations

import random
from typing import Any

from torch import Tensor

from lorakit.methods.eva import EVA
from lorakit.methods.loftq import LoftQ
from lorakit.methods.lora_ga import LoRAGA
from lorakit.methods.start import Initialiser
from lorakit.models.load import load_base
from lorakit.tasks.base import Features, Task, collate
from lorakit.train.recipe import Recipe


def initialiser(
    recipe: Recipe, task: Task, model: Any, rows: list[Features], padding: int
) -> str | Initialiser:
    """The recipe's way to start, with the data it needs: `lora.init_rows` rows, drawn by seed."""
    name = recipe.lora.init
    if name == LoftQ.name:
        full = load_base(
            recipe.model, task.kind, labels=task.labels(), precision=recipe.train.precision,
            padding=padding,
        )  # fmt: skip
        return LoftQ(full.model)
    if name not in (EVA.name, LoRAGA.name):
        return name
    batches = drawn(recipe, model, rows, padding)
    return EVA(batches) if name == EVA.name else LoRAGA(batches)


def drawn(
    recipe: Recipe, model: Any, rows: list[Features], padding: int
) -> list[dict[str, Tensor]]:
    """Batches of `lora.init_rows` training rows, drawn by the recipe's seed."""
    count = min(recipe.lora.init_rows, len(rows))
    chosen = random.Random(recipe.train.seed).sample(range(len(rows)), count)
    size = recipe.train.batch_size
    return [
        {
            key: value.to(model.device)
            for key, value in collate([rows[i] for i in part], padding=padding).items()
        }
        for part in (chosen[start : start + size] for start in range(0, count, size))
    ]
