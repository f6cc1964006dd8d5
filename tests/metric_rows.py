"""Rows of texts for tests of metrics, and the properties that all of them have."""

from __future__ import annotations

import random

import pytest
from hypothesis import strategies as st

from lorakit import metrics

WORDS = ("the", "pub", "river", "cheap", "near", "Aromi", "food", "kid-friendly", "5", "£20.")
texts = st.lists(st.sampled_from(WORDS), max_size=7).map(" ".join)
sentences = st.lists(st.sampled_from(WORDS), min_size=5, max_size=7).map(" ".join)


@st.composite
def rows(draw, text=texts):
    """Answers and one to three references for each."""
    count = draw(st.integers(1, 4))
    answers = draw(st.lists(text, min_size=count, max_size=count))
    references = [draw(st.lists(text, min_size=1, max_size=3)) for _ in range(count)]
    return answers, references


def holds(name, answers, references, *, best, order_of_references=True):
    """Range, the same score from sums, and no difference by the order of rows or references."""
    metric = metrics.metric(name)
    found = metric(answers, references)
    assert 0 <= found <= best + 1e-9
    shuffled = list(zip(answers, references))
    random.Random(0).shuffle(shuffled)
    assert metric(*map(list, zip(*shuffled))) == pytest.approx(found)
    if order_of_references:
        assert metric(answers, [row[::-1] for row in references]) == pytest.approx(found)
    sums = metric.statistics(answers, references)
    assert sums.shape[0] == len(answers)
    assert metric.total(sums.sum(axis=0)) == pytest.approx(found)
    if metric.mean:
        each = metric.per_row(answers, references)
        assert sum(each) / len(each) == pytest.approx(found)
