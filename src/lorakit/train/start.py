"""The adapter that a recipe asks for: its plan, its method, and what the method starts from."""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lorakit.core.plan import Plan
from lorakit.methods import LoRA, Method, Top, method_named
from lorakit.methods.eva import EVA
from lorakit.methods.loftq import LoftQ
from lorakit.methods.lora_ga import LoRAGA
from lorakit.methods.method import Baseline
from lorakit.methods.start import Initialiser
from lorakit.models.load import load_base
from lorakit.models.plan import plan
from lorakit.tasks.base import Features, Task, collate
from lorakit.train.options import SIZED
from lorakit.train.recipe import Recipe


def own_words(recipe: Recipe) -> str | list[str]:
    """What the recipe's targets are: those it names, or those of its method."""
    return recipe.lora.targets or list(method_named(recipe.method).targets)


def chosen_plan(recipe: Recipe, model: nn.Module) -> Plan:
    """The targets of the recipe on this model, or those of its method, with their sizes."""
    words, size = recipe.lora.targets, recipe.lora.rank
    kind = method_named(recipe.method)
    if words is None:
        own, number = kind.words(size if isinstance(size, int) else 1)
        words, size = list(own), number if isinstance(size, int) else size
    elif recipe.method not in SIZED or recipe.method == Top.name:
        size = 1
    return plan(model, targets=words, rank=size)


def chosen_method(
    recipe: Recipe, task: Task, model: Any, rows: list[Features], *, padding: int,
    extras: Sequence[str],
) -> Method:  # fmt: skip
    """The method of the recipe, with the data that it starts from; `extras` are trained in full."""
    kind = method_named(recipe.method)
    if issubclass(kind, Baseline):
        return kind(extras=tuple(extras))
    assert issubclass(kind, LoRA)
    return kind(
        alpha=recipe.lora.alpha, dropout=recipe.lora.dropout, rslora=recipe.lora.rslora,
        bias=recipe.lora.bias, extras=tuple(extras), in_float32=recipe.lora.in_float32,
        init=_initialiser(recipe, task, model, rows, padding),
    )  # fmt: skip


def centre_score(task: Task, model: nn.Module, fresh: Sequence[str], rows: list[Features]) -> None:
    """Let a new head for a score begin at the mean of the training rows, in its bias.

    From zero a short training spends itself on the mean: a rate that the layers below bear moves
    the head too slowly, and one that moves the head ruins them. A head without a bias is left.
    """
    if task.labels() != []:
        return
    mean = statistics.fmean(row["labels"] for row in rows)
    for path in fresh:
        for layer in model.get_submodule(path).modules():
            if isinstance(layer, nn.Linear) and layer.out_features == 1 and layer.bias is not None:
                limit = torch.finfo(layer.bias.dtype).max
                nn.init.constant_(layer.bias, min(limit, max(-limit, mean)))


def _initialiser(
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
