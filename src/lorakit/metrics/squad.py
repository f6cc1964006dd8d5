"""Exact match and F1 of SQuAD (Rajpurkar et al. 2016; without an answer: 2018), from 0 to 100.

Texts are compared in lower case, without ASCII punctuation, the articles a, an and the, and surplus
spaces. A row scores the best over its references. A row whose list of references is empty, or holds
nothing but empty strings, has no answer: an empty answer scores 100 there and any other one 0.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

from lorakit.metrics.text import Answers, References, checked, mean_metric

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")


def normalise(text: str) -> str:
    """The text as SQuAD compares it."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact(answer: str, references: Sequence[str]) -> float:
    """1.0 where the answer equals a reference, else 0.0."""
    return float(normalise(answer) in _references(references))


def f1(answer: str, references: Sequence[str]) -> float:
    """The best F1 of words, each counted as often as it stands there, from 0 to 1."""
    words = normalise(answer).split()
    return max(_f1(words, reference.split()) for reference in _references(references))


def splits(answers: Answers, references: References) -> dict[str, float]:
    """Both metrics over all rows, the rows with and those without an answer, 0 to 100.

    Keys: exact, f1, rows; has_answer_exact, ... and no_answer_exact, ... where there are such rows.
    """
    answers, references = checked(answers, references, unanswerable=True)
    pairs = list(zip(answers, references))
    parts = {
        "": pairs,
        "has_answer_": [pair for pair in pairs if any(text.strip() for text in pair[1])],
        "no_answer_": [pair for pair in pairs if not any(text.strip() for text in pair[1])],
    }
    found: dict[str, float] = {}
    for prefix, part in parts.items():
        if part:
            found[f"{prefix}exact"] = 100 * sum(exact(*pair) for pair in part) / len(part)
            found[f"{prefix}f1"] = 100 * sum(f1(*pair) for pair in part) / len(part)
            found[f"{prefix}rows"] = len(part)
    return found


def _references(references: Sequence[str]) -> list[str]:
    """Normalised, without those of which nothing is left unless it is all of them."""
    return [text for text in map(normalise, references) if text] or [""]


def _f1(answer: list[str], reference: list[str]) -> float:
    if not answer or not reference:
        return float(answer == reference)
    common = (Counter(answer) & Counter(reference)).total()
    return 2 * common / (len(answer) + len(reference))


def _describe(kind: str):
    return lambda count: (
        f"lorakit SQuAD {kind}|nrefs:{count}|best of references|official normal form"
    )


squad_em = mean_metric(
    lambda answers, references: [100 * exact(*pair) for pair in zip(answers, references)],
    _describe("exact match"),
    unanswerable=True,
)
squad_f1 = mean_metric(
    lambda answers, references: [100 * f1(*pair) for pair in zip(answers, references)],
    _describe("F1"),
    unanswerable=True,
)
