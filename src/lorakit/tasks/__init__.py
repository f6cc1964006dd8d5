"""The tasks: one file each, and one line in `TASKS`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from lorakit.tasks.benchmarks import benchmark_named

if TYPE_CHECKING:
    from lorakit.tasks.base import Task
    from lorakit.tasks.options import DataOptions

TASKS = {
    "chat": "ChatTask",
    "classification": "ClassificationTask",
    "completion": "CompletionTask",
    "regression": "RegressionTask",
    "seq2seq": "Seq2SeqTask",
    "text": "TextTask",
}


def make_task(name: str, options: DataOptions) -> Task:
    """The task of this name, for the recipe's data; a benchmark says what is not said there."""
    own = benchmark_named(options.benchmark) if options.benchmark else None
    if own is not None:
        own.check_task(name)
        options = own.fill(options)
    # Imported when it is made: a recipe can be read and refused before torch is there.
    task = getattr(import_module(f"lorakit.tasks.{name}"), TASKS[name])(options)
    if own is not None and own.best is not None:
        task.best = own.best
    return task
