from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score import rouge_scorer

from lorakit.metrics.rouge_coco import BETA, common_length, rouge_l_coco
from metric_rows import holds, rows, sentences


def test_rows_by_hand():
    # Common "a b": precision 1, recall 1/2; F = (1 + 1.44) P R / (R + 1.44 P) = 1.22 / 1.94.
    assert rouge_l_coco(["a b"], [["a b c d"]]) == pytest.approx(100 * 1.22 / 1.94)
    # The best precision (1, of the first) and the best recall (1, of the second) go together.
    assert rouge_l_coco(["a b c"], [["a b c d e f", "b"]]) == pytest.approx(100)
    assert rouge_l_coco(["", "a", "b"], [["a"], [""], ["c"]]) == 0.0
    # Case and punctuation do not count.
    assert rouge_l_coco(["The pub, near it."], [["the pub near it"]]) == pytest.approx(100)


def test_common_length_by_hand():
    assert common_length("abcbdab", "bdcaba") == 4
    assert common_length("", "abc") == 0


@settings(max_examples=50, deadline=None)
@given(st.text("abc", max_size=9), st.text("abc", max_size=9))
def test_common_length_against_rouge_score(first, second):
    if first and second:
        found = rouge_scorer._score_lcs(list(first), list(second))
        assert common_length(first, second) == pytest.approx(found.recall * len(first))
    assert common_length(first, second) == common_length(second, first)


@settings(max_examples=25, deadline=None)
@given(rows())
def test_properties(given_rows):
    holds("rouge_l_coco", *given_rows, best=100)


@settings(max_examples=25, deadline=None)
@given(rows(sentences))
def test_more_references_never_lower_it(given_rows):
    answers, references = given_rows
    one = rouge_l_coco.per_row(answers, [row[:1] for row in references])
    many = rouge_l_coco.per_row(answers, references)
    assert all(more >= less - 1e-9 for more, less in zip(many, one))


def test_recall_weighs_more():
    assert BETA > 1
    assert rouge_l_coco(["a b"], [["a"]]) > rouge_l_coco(["a"], [["a b"]])
