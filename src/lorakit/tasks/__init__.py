"""The tasks: one file each, and one line in `TASKS`."""

from __future__ import annotations

from lorakit.tasks.base import Task
from lorakit.tasks.chat import ChatTask
from lorakit.tasks.classification import ClassificationTask
from lorakit.tasks.completion import CompletionTask
from lorakit.tasks.options import DataOptions
from lorakit.tasks.regression import RegressionTask
from lorakit.tasks.seq2seq import Seq2SeqTask
from lorakit.tasks.text import TextTask

TASKS = (ChatTask, ClassificationTask, CompletionTask, RegressionTask, Seq2SeqTask, TextTask)


def make_task(name: str, options: DataOptions) -> Task:
    """The task of this name, for the recipe's data."""
    return next(task for task in TASKS if task.name == name)(options)
