"""Recomputing a model's blocks in the backward pass, to save their memory."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any


def checkpoint_blocks(
    model: Any, within: Callable[[], AbstractContextManager[Any]] | None = None
) -> None:
    """Let a transformers model recompute its blocks, in the form that adapters' hooks work with.

    `within` makes the context in which each block is recomputed.
    """
    # The word before the underscore is another since transformers 5.23.
    word = "activation" if hasattr(model, "activation_checkpointing_enable") else "gradient"
    enable = getattr(model, f"{word}_checkpointing_enable")
    options: dict[str, Any] = {"use_reentrant": False}
    if within is not None:
        options["context_fn"] = lambda: (nullcontext(), within())
    enable(**{f"{word}_checkpointing_kwargs": options})
