"""ROUGE-L as the COCO caption evaluation computes it (Chen et al. 2015), from 0 to 100.

Precision and recall of the longest common subsequence are each the best over a row's references,
maybe not of the same one, and F has beta 1.2, so that recall weighs more. It is the ROUGE-L of the
E2E challenge and of Hu et al. 2022, Table 3.
"""

from __future__ import annotations

from collections.abc import Sequence

from lorakit.metrics.text import mean_metric
from lorakit.metrics.words import caption_words

BETA = 1.2


def common_length(first: Sequence[str], second: Sequence[str]) -> int:
    """The length of the longest common subsequence, in time len(first) * len(second)."""
    best = [0] * (len(second) + 1)
    for word in first:
        diagonal = 0
        for place, other in enumerate(second, start=1):
            above = best[place]
            best[place] = diagonal + 1 if word == other else max(above, best[place - 1])
            diagonal = above
    return best[-1]


def _rows(answers: list[str], references: list[list[str]]) -> list[float]:
    return [100 * _row(answer, texts) for answer, texts in zip(answers, references)]


def _row(answer: str, texts: list[str]) -> float:
    words = caption_words(answer)
    precision = recall = 0.0
    for other in map(caption_words, texts):
        if words and other:
            common = common_length(words, other)
            precision = max(precision, common / len(words))
            recall = max(recall, common / len(other))
    if not precision:
        return 0.0
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)


def _describe(count: str) -> str:
    return f"lorakit ROUGE-L COCO|nrefs:{count}|beta:{BETA}|case:lc|tok:captions"


rouge_l_coco = mean_metric(_rows, _describe)
