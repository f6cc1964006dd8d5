from __future__ import annotations

import pytest
import sacrebleu
from hypothesis import given, settings

from lorakit.metrics.chrf import chrf, chrf_pp
from metric_rows import holds, rows, sentences


def test_a_row_by_hand():
    # "ab" for "abc". Order 1: 2 of 2 and of 3; order 2: 1 of 1 and of 2; no longer ones in "ab".
    # Precision 1, recall (2/3 + 1/2) / 2 = 7/12; F2 = 5 P R / (4 P + R) = 35/55.
    assert chrf(["ab"], [["abc"]]) == pytest.approx(100 * 35 / 55)
    # chrF++ adds the word, 0 of 1 and of 1: precision 2/3, recall 7/18, F2 = 14/33.
    assert chrf_pp(["ab"], [["abc"]]) == pytest.approx(100 * 14 / 33)


def test_the_best_reference_counts():
    assert chrf(["ab"], [["xyz", "abc"]]) == pytest.approx(100 * 35 / 55)


@settings(max_examples=25, deadline=None)
@given(rows())
def test_it_is_sacrebleus(given_rows):
    answers, references = given_rows
    width = max(map(len, references))
    columns = [[row[i] if i < len(row) else None for row in references] for i in range(width)]
    assert chrf(answers, references) == pytest.approx(sacrebleu.corpus_chrf(answers, columns).score)
    plus = sacrebleu.corpus_chrf(answers, columns, word_order=2).score
    assert chrf_pp(answers, references) == pytest.approx(plus)


@settings(max_examples=15, deadline=None)
@given(rows())
def test_properties(given_rows):
    # Of two references with the same score the first one's counts are taken.
    holds("chrf", *given_rows, best=100, order_of_references=False)
    holds("chrf_pp", *given_rows, best=100, order_of_references=False)


@settings(max_examples=10, deadline=None)
@given(sentences)
def test_the_reference_itself_is_best(text):
    assert chrf([text], [["other words", text]]) == pytest.approx(100)
    assert chrf_pp([text], [[text]]) == pytest.approx(100)
