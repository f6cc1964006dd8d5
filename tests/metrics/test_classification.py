from __future__ import annotations

import json

import numpy as np
import pytest
import sklearn.metrics as theirs
from hypothesis import given, settings
from hypothesis import strategies as st

from lorakit.core.errors import DataError
from lorakit.metrics.classification import (
    accuracy,
    commitment_bank,
    confusion,
    f1,
    f1_binary,
    matthews,
    report,
)

# Label (row) against answer (column):   a  b  c
#                                     a  2  1  0
#                                     b  0  1  1
#                                     c  0  0  1
LABELS = ["a", "a", "a", "b", "b", "c"]
ANSWERS = ["a", "a", "b", "b", "c", "c"]
pairs = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("abcd")), min_size=1)


def test_three_classes_by_hand():
    assert accuracy(ANSWERS, LABELS) == pytest.approx(4 / 6)
    # a: 2 of 2 answers, 2 of 3 rows; b: 1 of 2, 1 of 2; c: 1 of 2, 1 of 1.
    # F1 = 2 hits / (answers + rows): a 4/5, b 2/4, c 2/3.
    assert f1(ANSWERS, LABELS) == pytest.approx((4 / 5 + 1 / 2 + 2 / 3) / 3)
    assert f1(ANSWERS, LABELS, "weighted") == pytest.approx((3 * 4 / 5 + 2 / 2 + 2 / 3) / 6)
    assert f1(ANSWERS, LABELS, "micro") == pytest.approx(4 / 6)
    # R_K: (4 * 6 - (2*3 + 2*2 + 2*1)) / sqrt((36 - 12) * (36 - 14)).
    assert matthews(ANSWERS, LABELS) == pytest.approx(12 / (24 * 22) ** 0.5)


def test_two_classes_by_hand():
    # 3 found of 4, 1 false alarm, 2 rightly left: F1 = 6 / (4 + 4).
    labels, answers = [1, 1, 1, 1, 0, 0, 0], [1, 1, 1, 0, 1, 0, 0]
    assert f1_binary(answers, labels, positive=1) == pytest.approx(6 / 8)
    # (TP TN - FP FN) / sqrt((TP + FP)(TP + FN)(TN + FP)(TN + FN)).
    assert matthews(answers, labels) == pytest.approx((3 * 2 - 1) / (4 * 4 * 3 * 3) ** 0.5)


def test_commitment_bank_by_hand():
    # Two classes of three rows each: c is never answered. Accuracy 3/4; F1 1, 2/3, 0.
    found = commitment_bank(["e", "e", "n", "n"], ["e", "e", "n", "c"])
    assert found == pytest.approx(
        {"accuracy": 3 / 4, "f1_macro": (1 + 2 / 3 + 0) / 3, "score": (3 / 4 + 5 / 9) / 2}
    )


def test_the_matrix_with_names():
    matrix = confusion(ANSWERS, LABELS, ["a", "b", "c", "d"])
    assert matrix.counts.tolist() == [[2, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert matrix.normalised[0] == pytest.approx([2 / 3, 1 / 3, 0, 0])
    assert not matrix.normalised[3].any()  # a class without rows
    assert matrix.mean_f1("macro") == pytest.approx(f1(ANSWERS, LABELS))  # d takes no part
    assert json.loads(json.dumps(matrix.as_dict()))["classes"] == ["a", "b", "c", "d"]
    assert str(matrix).splitlines() == [
        "label \\ answer  a  b  c  d",
        "a               2  1  0  0",
        "b               0  1  1  0",
        "c               0  0  1  0",
        "d               0  0  0  0",
    ]


def test_the_report():
    found = report(np.array([0, 0, 1]), np.array([0, 1, 1]))
    assert json.loads(json.dumps(found.as_dict())) == {
        "classes": {
            "0": {"precision": 0.5, "recall": 1.0, "f1": pytest.approx(2 / 3), "support": 1},
            "1": {"precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3), "support": 2},
        },
        "accuracy": pytest.approx(2 / 3),
        "f1_macro": pytest.approx(2 / 3),
        "f1_weighted": pytest.approx(2 / 3),
        "matthews": pytest.approx(0.5),
        "rows": 3,
    }
    assert str(found).splitlines() == [
        "class  precision  recall     f1  support",
        "0          0.500   1.000  0.667        1",
        "1          1.000   0.500  0.667        2",
        "accuracy 0.667, f1_macro 0.667, f1_weighted 0.667, matthews 0.500",
    ]


def test_what_has_no_denominator_is_zero():
    assert matthews([1, 1], [1, 1]) == matthews([0, 1], [1, 1]) == matthews([1, 1], [0, 1]) == 0.0
    assert f1([1, 1], [1, 1]) == 1.0
    assert f1_binary([0, 0], [0, 0], positive=1) == 0.0
    found = report(["a", "a"], ["b", "b"], ["a", "b", "c"]).as_dict()["classes"]
    assert found["a"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0}
    assert found["b"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 2}
    assert found["c"]["f1"] == 0.0


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: accuracy([1], [1, 2]), "1 answers for 2 labels"),
        (lambda: accuracy([], []), "no rows"),
        (lambda: accuracy(["1"], [1]), "both names and numbers"),
        (lambda: confusion(["x"], ["a"], ["a", "b"]), "'x' is none of the classes"),
        (lambda: confusion(["a"], ["a"], ["a", "a"]), "name one twice"),
        (lambda: f1_binary(["yes", "no"], ["no", "no"], positive="yess"), "Did you mean 'yes'"),
        (lambda: f1(["a"], ["a"], "mean"), "'macro', 'micro' and 'weighted'"),  # pyright: ignore
    ],
)
def test_what_cannot_be_counted(call, match):
    with pytest.raises(DataError, match=match):
        call()


@pytest.mark.filterwarnings("ignore:A single label was found:UserWarning")  # scikit-learn's
@settings(max_examples=40, deadline=None)
@given(pairs)
def test_they_are_scikit_learns(rows):
    answers, labels = map(list, zip(*rows))
    assert accuracy(answers, labels) == pytest.approx(theirs.accuracy_score(labels, answers))
    assert matthews(answers, labels) == pytest.approx(theirs.matthews_corrcoef(labels, answers))
    for average in ("macro", "micro", "weighted"):
        expected = theirs.f1_score(labels, answers, average=average, zero_division=0.0)
        assert f1(answers, labels, average) == pytest.approx(expected)
    matrix = confusion(answers, labels)
    assert (matrix.counts == theirs.confusion_matrix(labels, answers, labels=matrix.classes)).all()
    each = theirs.precision_recall_fscore_support(labels, answers, zero_division=0.0)
    for ours, expected in zip((matrix.precision, matrix.recall, matrix.f1, matrix.support), each):
        assert ours == pytest.approx(expected)


@settings(max_examples=30, deadline=None)
@given(pairs, st.randoms())
def test_order_does_not_matter_and_counts_add_up(rows, rng):
    classes = list("abcd")
    answers, labels = map(list, zip(*rows))
    whole = confusion(answers, labels, classes)
    rng.shuffle(rows)
    cut = len(rows) // 2
    parts = [
        confusion([a for a, _ in part], [b for _, b in part], classes).counts
        for part in (rows[:cut], rows[cut:])
        if part
    ]
    assert np.array_equal(sum(parts), whole.counts)
    assert -1 - 1e-9 <= whole.matthews <= 1 + 1e-9
    assert accuracy(labels, labels) == f1(labels, labels) == 1.0
