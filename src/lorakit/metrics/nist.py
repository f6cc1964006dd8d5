"""NIST (Doddington 2002, equation 3) of a corpus, as mteval-v13a computes it.

A matched n-gram counts by its information, log2 of how much rarer it is in the references than its
first n - 1 words. Matches are clipped by the most that any one reference has; the length penalty
takes the mean length of a row's references. Orders 1 to 5, mteval's tokens, lower case.
`nltk.translate.nist_score` differs with several references (it takes the best one of each order
and its length) and divides by zero where no answer has five words; with one reference they agree.
"""

from __future__ import annotations

import math
from collections import Counter
from functools import lru_cache

import numpy as np

from lorakit.metrics.text import TextMetric, need, version
from lorakit.metrics.words import ngrams

ORDERS = 5
# The penalty is a half where answers have two thirds of the references' length.
_BETA = math.log(0.5) / math.log(1.5) ** 2


def _rows(answers: list[str], references: list[list[str]]) -> np.ndarray:
    """Information and number of n-grams for each order, then the mean reference length."""
    cut = [[_words(text) for text in row] for row in references]
    information = _information(cut)
    found = np.zeros((len(answers), 2 * ORDERS + 1))
    for row, (answer, texts) in enumerate(zip(answers, cut)):
        words = _words(answer)
        for order in range(1, ORDERS + 1):
            most: Counter[tuple[str, ...]] = Counter()
            for text in texts:
                most |= ngrams(text, order)
            grams = ngrams(words, order)
            matched = (grams & most).items()
            found[row, order - 1] = math.fsum(information[gram] * count for gram, count in matched)
            found[row, ORDERS + order - 1] = grams.total()
        found[row, -1] = sum(map(len, texts)) / len(texts)
    return found


def _information(references: list[list[list[str]]]) -> dict[tuple[str, ...], float]:
    """Bits of each n-gram of the references, equation 2; all words are the count of order 0."""
    counts: Counter[tuple[str, ...]] = Counter()
    for row in references:
        for words in row:
            counts[()] += len(words)
            for order in range(1, ORDERS + 1):
                counts.update(ngrams(words, order))
    return {gram: math.log2(counts[gram[:-1]] / counts[gram]) for gram in counts if gram}


def _total(sums: np.ndarray) -> float:
    information, grams, length = sums[:ORDERS], sums[ORDERS:-1], sums[-1]
    if not grams[0] or not length:
        return 0.0
    ratio = min(grams[0] / length, 1.0)
    return float(
        (information / np.maximum(grams, 1)).sum() * math.exp(_BETA * math.log(ratio) ** 2)
    )


def _words(text: str) -> list[str]:
    return _tokenizer()(text.lower().rstrip()).split()


@lru_cache(maxsize=1)
def _tokenizer():
    return need("sacrebleu.tokenizers.tokenizer_13a", "sacrebleu").Tokenizer13a()


def _describe(count: str) -> str:
    _tokenizer()
    return f"lorakit NIST|nrefs:{count}|case:lc|tok:13a|n:{ORDERS}|sacrebleu:{version('sacrebleu')}"


nist = TextMetric(_rows, _total, _describe)
