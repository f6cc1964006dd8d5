"""AdaLoRA in a run: whether its ranks have settled, and what a checkpoint keeps of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from lorakit.core.errors import ResumeError
from lorakit.core.registry import require_registry
from lorakit.methods.adalora import AdaLoRA, progress, singular

FILE = "adalora.safetensors"


def prunes(model: nn.Module, adapter: str) -> bool:
    """Whether the adapter has ranks that AdaLoRA prunes."""
    return bool(singular(model, adapter))


def method_of(model: nn.Module, adapter: str) -> AdaLoRA:
    """The adapter's options."""
    method = require_registry(model).entry(adapter).method
    assert isinstance(method, AdaLoRA)
    return method


def is_settled(model: nn.Module, adapter: str, state: Any) -> bool:
    """Whether the adapter has the ranks to end with: AdaLoRA's have to fall first."""
    if not prunes(model, adapter):
        return True
    return method_of(model, adapter).is_settled(state.global_step, state.max_steps)


def ranks_left(model: nn.Module, adapter: str) -> dict[str, int]:
    """The ranks that AdaLoRA left of each target."""
    return {target: len(own.plain()[0]) for target, own in singular(model, adapter).items()}


def write_progress(folder: Path, model: nn.Module, adapter: str) -> None:
    """Keep what files of an adapter do not: the values apart, and what ranks are judged by."""
    if prunes(model, adapter):
        held = progress(model, adapter)
        save_file({k: v.detach().cpu().contiguous() for k, v in held.items()}, folder / FILE)


def restore_progress(folder: Path, model: nn.Module, adapter: str) -> bool:
    """Put a checkpoint's values on the model, all or none; False for what is no AdaLoRA."""
    if not prunes(model, adapter):
        return False
    held = progress(model, adapter)
    given = load_file(folder / FILE) if (folder / FILE).is_file() else {}
    if {k: v.shape for k, v in held.items()} != {k: v.shape for k, v in given.items()}:
        raise ResumeError(
            f"{folder / FILE} does not fit the adapter {adapter!r}. Resume with the recipe that "
            "the checkpoint was made with."
        )
    with torch.no_grad():
        for key, value in held.items():
            value.copy_(given[key])
    return True
