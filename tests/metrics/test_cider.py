from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorakit.metrics.cider import cider
from metric_rows import holds, rows, sentences


def test_rows_by_hand():
    # Every n-gram is in one of two rows: weight log 2 = w. Row 1: orders 1 and 2 agree wholly,
    # orders 3 and 4 do not exist: 10 * (1 + 1) / 4. Row 2: (2w) against (w, w): min(2w, w) * w
    # over 2w * w * sqrt(2), no common pair: 10 / (2 sqrt(2)) / 4.
    rows = cider.per_row(["a b", "c c"], [["a b"], ["c d"]])
    assert rows == pytest.approx([5, 10 / (2 * math.sqrt(2)) / 4])
    assert cider(["a b", "c c"], [["a b"], ["c d"]]) == pytest.approx(sum(rows) / 2)


def test_the_length_penalty():
    # One word for two: order 1 has cosine 1 / sqrt(2), times exp(-1 / (2 * 36)).
    found = cider.per_row(["a", "c"], [["a b"], ["c d"]])[0]
    assert found == pytest.approx(10 / 4 / math.sqrt(2) * math.exp(-1 / 72))


def test_the_mean_over_references_and_common_words_weigh_nothing():
    # The first reference agrees (5, as above), the second does not.
    assert cider.per_row(["a b", "c"], [["a b", "x y"], ["c"]])[0] == pytest.approx(2.5)
    # "a" stands in both rows, weight 0; so do answers made of it.
    assert cider(["a", "a"], [["a b"], ["a c"]]) == 0.0
    # With one row all words do.
    assert cider(["a b c d"], [["a b c d"]]) == 0.0
    assert cider(["", "b"], [["a"], [""]]) == 0.0


@settings(max_examples=25, deadline=None)
@given(rows())
def test_properties(given_rows):
    holds("cider", *given_rows, best=10)


@settings(max_examples=15, deadline=None)
@given(st.permutations(["one two three four", "five six seven eight", "a b c d e"]), sentences)
def test_the_reference_itself_is_best(texts, other):
    references = [[text] for text in texts]
    assert cider(texts, references) == pytest.approx(10)
    assert cider([other, *texts[1:]], references) < 10
