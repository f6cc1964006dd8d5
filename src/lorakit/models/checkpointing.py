"""Recomputing a model's blocks in the backward pass, to save their memory."""

from __future__ import annotations

from typing import Any


def checkpoint_blocks(model: Any) -> None:
    """Let a transformers model recompute its blocks, in the form that adapters' hooks work with."""
    # The word before the underscore is another since transformers 5.23.
    word = "activation" if hasattr(model, "activation_checkpointing_enable") else "gradient"
    enable = getattr(model, f"{word}_checkpointing_enable")
    enable(**{f"{word}_checkpointing_kwargs": {"use_reentrant": False}})
