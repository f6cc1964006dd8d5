from __future__ import annotations

import pytest
import sacrebleu
from hypothesis import given, settings

from lorakit.metrics.ter import ter
from metric_rows import holds, rows, sentences


def test_rows_by_hand():
    # One word is missing of four.
    assert ter(["a b d"], [["a b c d"]]) == pytest.approx(25)
    # One shift of three words; case does not matter.
    assert ter(["C A B"], [["a b c"]]) == pytest.approx(100 / 3)
    # One edit to the nearer reference, over the mean length of both, (2 + 4) / 2.
    assert ter(["a x"], [["a b", "p q r s"]]) == pytest.approx(100 / 3)
    # Edits and lengths are added up over rows: (1 + 0) / (4 + 2).
    assert ter(["a b d", "x y"], [["a b c d"], ["x y"]]) == pytest.approx(100 / 6)


@settings(max_examples=25, deadline=None)
@given(rows())
def test_it_is_sacrebleus(given_rows):
    answers, references = given_rows
    width = max(map(len, references))
    columns = [[row[i] if i < len(row) else None for row in references] for i in range(width)]
    assert ter(answers, references) == pytest.approx(sacrebleu.corpus_ter(answers, columns).score)


@settings(max_examples=15, deadline=None)
@given(rows())
def test_properties(given_rows):
    holds("ter", *given_rows, best=float("inf"))
    assert not ter.higher_is_better


@settings(max_examples=10, deadline=None)
@given(sentences)
def test_the_reference_itself_is_best(text):
    assert ter([text], [[text]]) == 0
