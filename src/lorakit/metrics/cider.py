"""CIDEr-D (Vedantam et al. 2015, section 6), from 0 to 10: agreement of tf-idf vectors of n-grams.

The mean over orders 1 to 4 and over a row's references of the cosine, in which what an answer
repeats beyond the reference is clipped, times a Gaussian of the difference in words (sigma 6),
times 10: the form of the COCO caption evaluation, which does not divide counts by lengths.
The inverse document frequency is that of the references given, one document for each row: figures
over other rows cannot be compared, and one row alone scores 0, as all stands in every document.
"""

from __future__ import annotations

import math
from collections import Counter

from lorakit.metrics.text import mean_metric
from lorakit.metrics.words import caption_words, ngrams

ORDERS = 4
SIGMA = 6.0
SCALE = 10.0

Vector = dict[tuple[str, ...], float]


def _rows(answers: list[str], references: list[list[str]]) -> list[float]:
    cut = [[caption_words(text) for text in row] for row in references]
    weights = [_weights(cut, order) for order in range(1, ORDERS + 1)]
    # An n-gram that no reference has counts as if one had it.
    unseen = math.log(len(cut))
    return [
        _row(caption_words(answer), texts, weights, unseen) for answer, texts in zip(answers, cut)
    ]


def _weights(references: list[list[list[str]]], order: int) -> Vector:
    """log(rows / rows with it) for each n-gram of the references."""
    rows = Counter(
        gram for row in references for gram in {g for t in row for g in ngrams(t, order)}
    )
    return {gram: math.log(len(references) / count) for gram, count in rows.items()}


def _row(
    answer: list[str], references: list[list[str]], weights: list[Vector], unseen: float
) -> float:
    scores = []
    for order, known in enumerate(weights, start=1):
        one = _vector(answer, order, known, unseen)
        for words in references:
            near = math.exp(-((len(answer) - len(words)) ** 2) / (2 * SIGMA**2))
            scores.append(near * _clipped_cosine(one, _vector(words, order, known, unseen)))
    return SCALE * math.fsum(scores) / len(scores)


def _vector(words: list[str], order: int, known: Vector, unseen: float) -> Vector:
    return {gram: n * known.get(gram, unseen) for gram, n in ngrams(words, order).items()}


def _clipped_cosine(answer: Vector, reference: Vector) -> float:
    norms = math.hypot(*answer.values()) * math.hypot(*reference.values())
    if not norms:
        return 0.0
    common = answer.keys() & reference.keys()
    return math.fsum(min(answer[g], reference[g]) * reference[g] for g in common) / norms


def _describe(count: str) -> str:
    return f"lorakit CIDEr-D|nrefs:{count}|n:{ORDERS}|sigma:{SIGMA}|x{SCALE:g}|case:lc|tok:captions"


cider = mean_metric(_rows, _describe)
