"""What torch.compile must know of adapters: that a layer has a hook, or has none."""

from __future__ import annotations

import torch


def guard_hooks() -> None:
    """Let compiled graphs ask whether layers have hooks, before they are used again.

    Dynamo leaves that out by default, and a graph of a model without adapters then serves an
    adapted one of the same architecture, whose adapter it does not have. Graphs that were made
    before this was set are forgotten, once.
    """
    from torch._dynamo import config

    if config.skip_nnmodule_hook_guards:
        config.skip_nnmodule_hook_guards = False
        torch.compiler.reset()
