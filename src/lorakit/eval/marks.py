"""Metrics of the answers that a model wrote, with their intervals over the questions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lorakit.core.errors import DataError, MissingExtraError
from lorakit.eval.interval import Estimate, estimate
from lorakit.eval.questions import Question
from lorakit.metrics import metric, signature
from lorakit.metrics.slots import slot_rows

SLOTS = "slots"  # reads the meaning and not the references, so it is none of `metrics.TEXT`
MEANING = "mr"  # the field that it reads


def check(name: str) -> None:
    """Raise where there is no such metric, or its library or data are missing."""
    if name != SLOTS:
        metric(name).signature(None)


def lacks(name: str) -> str | None:
    """What a metric needs and does not find, or None."""
    try:
        check(name)
    except (DataError, MissingExtraError) as error:
        return str(error)
    return None


def mark(
    metrics: Sequence[str], answers: Sequence[str], asked: Sequence[Question]
) -> dict[str, Estimate]:
    """The metrics over answers to questions; those of slots are shares from 0 to 1."""
    references = [question.references for question in asked]
    chosen = {name: metric(name) for name in metrics if name != SLOTS}
    rows = {name: one.statistics(answers, references) for name, one in chosen.items()}
    slots = _slots(answers, asked) if SLOTS in metrics else None

    def measure(places: np.ndarray) -> dict[str, float]:
        found = {name: one.total(rows[name][places].sum(0)) for name, one in chosen.items()}
        if slots is not None:
            right, all_slots, whole, added = slots[places].sum(0)
            found["slot_accuracy"] = float(right / all_slots)
            found["slots_all_right"] = float(whole / len(places))
            found["slots_added"] = float(added / len(places))
        return found

    return estimate(len(asked), measure)


def signatures(metrics: Sequence[str], asked: Sequence[Question]) -> dict[str, str]:
    """What each figure was made by: library, version, options."""
    references = [question.references for question in asked]
    return {name: signature(name, references) for name in metrics if name != SLOTS}


def _slots(answers: Sequence[str], asked: Sequence[Question]) -> np.ndarray:
    meanings = [question.fields.get(MEANING) for question in asked]
    if not all(isinstance(meaning, str) for meaning in meanings):
        raise DataError(
            f"The metric {SLOTS!r} reads the meaning of each row from its field {MEANING!r}, which "
            "these rows do not have. Leave it out of --metrics, or evaluate on E2E."
        )
    return np.array([row.statistics for row in slot_rows([str(m) for m in meanings], answers)])
