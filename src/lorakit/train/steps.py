"""The length of a run in optimiser steps."""

from __future__ import annotations

import math

from lorakit.train.recipe import Recipe


def steps_of(recipe: Recipe, rows: int) -> int:
    """How many optimiser steps the run has."""
    options = recipe.train
    if options.steps is not None:
        return options.steps
    batches = math.ceil(rows / options.batch_size)
    return math.ceil(math.ceil(batches / options.accumulate) * options.epochs)
