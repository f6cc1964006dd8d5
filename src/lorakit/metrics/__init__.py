"""The metrics of benchmarks: one file each, pure functions of answers and references.

`TEXT` lists the metrics of texts. All share one form: the answers, one string for each row, and
the references, one list of strings for each row; see `metrics/text.py` for scales and statistics.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lorakit.metrics.text import TextMetric

# Name -> the file that defines it.
TEXT = {
    "bleu": "bleu",
    "bleu_e2e": "bleu",
    "chrf": "chrf",
    "chrf_pp": "chrf",
    "cider": "cider",
    "meteor": "meteor",
    "nist": "nist",
    "rouge_1": "rouge",
    "rouge_2": "rouge",
    "rouge_l": "rouge",
    "rouge_l_coco": "rouge_coco",
    "rouge_lsum": "rouge",
    "squad_em": "squad",
    "squad_f1": "squad",
    "ter": "ter",
}


def metric(name: str) -> TextMetric:
    """The metric of texts with this name; raises `RecipeError` where there is none."""
    if name not in TEXT:
        from lorakit.core.errors import RecipeError, did_you_mean

        raise RecipeError(
            f"There is no metric of texts called {name!r}.{did_you_mean(name, TEXT)} "
            f"There are: {', '.join(TEXT)}."
        )
    return getattr(import_module(f"lorakit.metrics.{TEXT[name]}"), name)


def score(
    names: Iterable[str], answers: Sequence[str], references: Sequence[Sequence[str]]
) -> dict[str, float]:
    """The metrics of these names over all rows, in the order of the names.

    Every name is looked up, and its library imported, before anything is computed.
    """
    if isinstance(names, str):
        names = [names]
    chosen = {name: metric(name) for name in names}
    for one in chosen.values():
        one.signature(None)  # a library or data that are missing are told at once
    return {name: one(answers, references) for name, one in chosen.items()}


def signature(name: str, references: Sequence[Sequence[str]] | None = None) -> str:
    """Library, version and options of a metric, for the record that its figure stands in.

    With the references, their number for each row is in it too ("var" where it varies).
    """
    return metric(name).signature(references)
