"""sacrebleu's metrics as sums over rows (Post 2018, "A Call for Clarity in Reporting BLEU")."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from itertools import zip_longest
from typing import Any

import numpy as np

from lorakit.metrics.text import TextMetric, need


def sacrebleu_metric(
    kind: str, options: dict[str, Any], *, higher_is_better: bool = True
) -> TextMetric:
    """The `BLEU`, `CHRF` or `TER` of sacrebleu with these options.

    Rows may have any number of references: shorter lists are filled with None, which sacrebleu
    leaves out.
    """
    make = _maker(kind, options)

    def rows(answers: list[str], references: list[list[str]]) -> np.ndarray:
        # One list for each place in the rows' lists, as sacrebleu wants them.
        columns = list(zip_longest(*references))
        # The statistics are not public in sacrebleu; a test holds their sum to its corpus score.
        found = make()._extract_corpus_statistics(answers, columns)
        return np.asarray(found, dtype=np.float64)

    def total(sums: np.ndarray) -> float:
        return float(make()._compute_score_from_stats(sums.tolist()).score)

    def describe(count: str) -> str:
        scorer = make()
        scorer.num_refs = count
        return f"sacrebleu {kind}|{scorer.get_signature().format()}"

    return TextMetric(rows, total, describe, higher_is_better=higher_is_better)


def _maker(kind: str, options: dict[str, Any]) -> Callable[[], Any]:
    @lru_cache(maxsize=1)
    def make() -> Any:
        return getattr(need("sacrebleu.metrics", "sacrebleu"), kind)(**options)

    return make
