from __future__ import annotations

import math

import pytest
import sacrebleu
from hypothesis import given, settings

from lorakit.metrics.bleu import bleu, bleu_e2e
from metric_rows import holds, rows, sentences


def test_a_row_by_hand():
    # Clipped matches: 5 of 6 words, 3 of 5 pairs, 1 of 4 triples, 0 of 3 quadruples, which counts
    # as half a match ("exp"): 1 / (2 * 3). The lengths are equal: no brevity penalty.
    found = bleu(["the cat sat on the mat"], [["the cat is on the mat"]])
    assert found == pytest.approx(100 * (5 / 6 * 3 / 5 * 1 / 4 * 1 / 6) ** 0.25)
    assert bleu_e2e(["the cat sat on the mat"], [["the cat is on the mat"]]) == 0.0


def test_case_and_brevity():
    # All matches in lower case, none otherwise; five words for a reference of six.
    answers, references = ["A B C D E"], [["a b c d e f"]]
    assert bleu_e2e(answers, references) == pytest.approx(100 * math.exp(1 - 6 / 5))
    assert bleu(answers, references) == 0.0


def test_sums_are_over_the_corpus_and_references_ragged():
    # Row 1: all of 4, 3, 2, 1 n-grams; row 2: with its second reference 4, 3, 2, 1 of 5, 4, 3, 2.
    # Closest reference lengths: 4 and 5.
    answers = ["a b c d", "a b c d x"]
    references = [["a b c d"], ["y y y y y", "a b c d z z z"]]
    expected = 100 * (8 / 9 * 6 / 7 * 4 / 5 * 2 / 3) ** 0.25
    assert bleu(answers, references) == pytest.approx(expected)


@settings(max_examples=40, deadline=None)
@given(rows())
def test_it_is_sacrebleus(given_rows):
    answers, references = given_rows
    width = max(map(len, references))
    columns = [[row[i] if i < len(row) else None for row in references] for i in range(width)]
    plain = sacrebleu.corpus_bleu(answers, columns, force=True).score
    assert bleu(answers, references) == pytest.approx(plain)
    lower = sacrebleu.corpus_bleu(
        answers, columns, smooth_method="none", lowercase=True, force=True
    )
    assert bleu_e2e(answers, references) == pytest.approx(lower.score)


@settings(max_examples=25, deadline=None)
@given(rows())
def test_properties(given_rows):
    holds("bleu", *given_rows, best=100)
    holds("bleu_e2e", *given_rows, best=100)


@settings(max_examples=10, deadline=None)
@given(sentences)
def test_the_reference_itself_is_best(text):
    assert bleu([text], [["other words", text]]) == pytest.approx(100)
    assert bleu_e2e([text.upper()], [[text]]) == pytest.approx(100)


def test_the_signature_tells_both_apart():
    assert "case:mixed" in bleu.signature()
    assert "smooth:exp" in bleu.signature()
    assert "case:lc" in bleu_e2e.signature()
    assert "smooth:none" in bleu_e2e.signature()
    assert "nrefs:2" in bleu.signature([["a", "b"], ["c", "d"]])
    assert "nrefs:var" in bleu.signature([["a", "b"], ["c"]])
    assert f"version:{sacrebleu.__version__}" in bleu.signature()
