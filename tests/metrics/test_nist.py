from __future__ import annotations

import math

import pytest
from hypothesis import assume, given, settings
from nltk.translate.nist_score import corpus_nist

from lorakit.metrics.nist import _words, nist
from metric_rows import holds, rows, sentences, texts


def test_a_row_by_hand():
    # Two words of two: log2(2 / 1) bits each, mean 1; "a b" follows from "a": 0 bits.
    assert nist(["a b"], [["a b"]]) == pytest.approx(1.0)


def test_the_length_penalty_is_a_half_at_two_thirds():
    # Each word log2(3 / 1) bits; two of three words.
    assert nist(["a b"], [["a b c"]]) == pytest.approx(0.5 * math.log2(3))


def test_several_references():
    # Of 4 reference words a stands twice: a 1 bit, b and c 2 bits, all matched: 5 / 3. Of the
    # pairs "a b" and "b c" the first is there: log2(2 / 1) / 2. 3 words for a mean of 2.
    assert nist(["a b c"], [["a b", "a c"]]) == pytest.approx(5 / 3 + 1 / 2)
    # Clipped by the most in any one reference, not by their sum: one "a" of two.
    assert nist(["a a"], [["a b", "a c"]]) == pytest.approx(1 / 2)


def test_short_and_empty_rows_do_not_crash():
    assert nist(["a"], [["a"]]) == 0.0  # one word alone has no information
    assert nist([""], [["a b"]]) == 0.0
    assert nist(["a"], [[""]]) == 0.0
    assert nist(["", "a b"], [["c d"], ["a b"]]) > 0


@settings(max_examples=30, deadline=None)
@given(rows(sentences))
def test_with_one_reference_it_is_nltks(given_rows):
    answers, references = given_rows
    references = [row[:1] for row in references]
    cut = [[_words(text) for text in row] for row in references]
    assert nist(answers, references) == pytest.approx(corpus_nist(cut, list(map(_words, answers))))


@settings(max_examples=15, deadline=None)
@given(rows())
def test_properties(given_rows):
    holds("nist", *given_rows, best=float("inf"))


@settings(max_examples=15, deadline=None)
@given(rows(sentences), texts)
def test_no_answer_beats_the_references(given_rows, other):
    _, references = given_rows
    assume(len(_words(other)) >= 1)
    single = [row[:1] for row in references]
    right = [row[0] for row in single]
    wrong = [other, *right[1:]]
    same_length = len(_words(other)) == len(_words(right[0]))
    assert not same_length or nist(wrong, single) <= nist(right, single) + 1e-9
