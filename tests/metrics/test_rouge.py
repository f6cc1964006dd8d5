from __future__ import annotations

import pytest
from hypothesis import given, settings
from rouge_score import rouge_scorer

from lorakit import metrics
from lorakit.metrics.rouge import rouge_1, rouge_2, rouge_l, rouge_lsum
from metric_rows import holds, rows, sentences

ALL = {"rouge_1": "rouge1", "rouge_2": "rouge2", "rouge_l": "rougeL", "rouge_lsum": "rougeLsum"}


def test_rows_by_hand():
    answer, reference = ["the cat sat"], [["the cat on mat"]]
    # Two words of 3 and of 4; one pair of 2 and of 3; F1 = 2 matches / (sum of both lengths).
    assert rouge_1(answer, reference) == pytest.approx(100 * 4 / 7)
    assert rouge_2(answer, reference) == pytest.approx(100 * 2 / 5)
    # In order, too, and then not.
    assert rouge_l(answer, reference) == pytest.approx(100 * 4 / 7)
    assert rouge_l(["cat the sat"], reference) == pytest.approx(100 * 2 / 7)


def test_sentences_in_another_order():
    # As one text: "a b" or "c d" is common, 2 of 4. Sentence by sentence all is.
    assert rouge_l(["c d\na b"], [["a b\nc d"]]) == pytest.approx(50)
    assert rouge_lsum(["c d\na b"], [["a b\nc d"]]) == pytest.approx(100)


def test_the_best_reference_and_the_mean_of_rows():
    # Row 1: the second reference, 1; row 2: nothing.
    assert rouge_1(["a b", "x"], [["c", "b a"], ["y"]]) == pytest.approx(50)
    assert rouge_1.per_row(["a b", "x"], [["c", "b a"], ["y"]]) == pytest.approx([100, 0])


@settings(max_examples=15, deadline=None)
@given(rows())
def test_it_is_rouge_scores(given_rows):
    answers, references = given_rows
    scorer = rouge_scorer.RougeScorer(list(ALL.values()))
    found = [scorer.score_multi(texts, text) for text, texts in zip(answers, references)]
    for name, kind in ALL.items():
        mean = sum(row[kind].fmeasure for row in found) / len(found)
        assert metrics.metric(name)(answers, references) == pytest.approx(100 * mean)


@settings(max_examples=15, deadline=None)
@given(rows())
def test_properties(given_rows):
    for name in ALL:
        holds(name, *given_rows, best=100)


@settings(max_examples=10, deadline=None)
@given(sentences)
def test_the_reference_itself_is_best(text):
    assert all(metrics.metric(name)([text], [["x", text]]) == pytest.approx(100) for name in ALL)
