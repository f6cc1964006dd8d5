from __future__ import annotations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lorakit.core.errors import DataError
from lorakit.metrics.squad import exact, f1, normalise, splits, squad_em, squad_f1
from metric_rows import holds, rows, sentences


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The  Eiffel\tTower!", "eiffel tower"),
        ("an apple a day", "apple day"),
        ("theatre anagram", "theatre anagram"),  # articles are whole words
        ("U.S.A.", "usa"),
        ("The", ""),
        ("well-known", "wellknown"),
        ("“quoted”", "“quoted”"),  # ASCII punctuation alone
    ],
)
def test_the_normal_form(text, normal):
    assert normalise(text) == normal


def test_rows_by_hand():
    assert exact("the Eiffel Tower.", ["Big Ben", "Eiffel tower"]) == 1.0
    assert exact("Eiffel", ["Eiffel tower"]) == 0.0
    # Common: "eiffel" and one of two "tower": 2 * 2 / (3 + 4).
    assert f1("Eiffel tower tower", ["great Eiffel tower Paris"]) == pytest.approx(4 / 7)
    # The best of both references: 2 * 1 / (1 + 2).
    assert f1("Paris", ["in London town", "Paris, France"]) == pytest.approx(2 / 3)
    assert f1("Rome", ["Paris"]) == 0.0


def test_rows_without_an_answer():
    for none in ([], [""], ["", " "]):
        assert exact("", none) == f1("", none) == 1.0
        assert exact("something", none) == f1("something", none) == 0.0
    assert exact("", ["something"]) == f1("", ["something"]) == 0.0
    # A reference of which nothing is left is dropped, as the official script does.
    assert exact("", ["the", "something"]) == 0.0
    assert exact("", ["the"]) == 1.0


def test_splits():
    answers = ["Paris", "Paris, France", "", "Rome"]
    references = [["Paris"], ["Paris"], [], [""]]
    # F1: 1 and 2 * 1 / (2 + 1); without an answer 1 and 0.
    assert splits(answers, references) == pytest.approx(
        {
            "exact": 50, "f1": 100 * (1 + 2 / 3 + 1 + 0) / 4, "rows": 4,
            "has_answer_exact": 50, "has_answer_f1": 100 * (1 + 2 / 3) / 2, "has_answer_rows": 2,
            "no_answer_exact": 50, "no_answer_f1": 50, "no_answer_rows": 2,
        }
    )  # fmt: skip
    assert set(splits(["a"], [["b"]])) == {
        "exact", "f1", "rows", "has_answer_exact", "has_answer_f1", "has_answer_rows",
    }  # fmt: skip
    assert squad_em(answers, references) == 50
    assert squad_f1(answers, references) == pytest.approx(100 * (1 + 2 / 3 + 1) / 4)
    with pytest.raises(DataError, match="1 answers and references for 2 rows"):
        splits(["a"], [[], []])


@settings(max_examples=30, deadline=None)
@given(rows())
def test_properties(given_rows):
    holds("squad_em", *given_rows, best=100)
    holds("squad_f1", *given_rows, best=100)
    assert squad_em(*given_rows) <= squad_f1(*given_rows) + 1e-9


@settings(max_examples=30, deadline=None)
@given(st.text(), st.text(), sentences)
def test_the_reference_itself_is_best_and_f1_is_symmetric(text, other, sentence):
    assume(normalise(sentence))  # a reference of articles alone is dropped where there are others
    assert exact(sentence.upper() + "!", [other, sentence]) == 1.0
    assert f1(sentence, [sentence]) == 1.0
    assert normalise(text) == " ".join(normalise(text).split())
    assert f1(text, [other]) == pytest.approx(f1(other, [text]))
