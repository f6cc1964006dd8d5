"""A plan said shortly is the same plan."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lorakit as lk
from families import CONFIGS, build
from lorakit.core.errors import PlanError
from lorakit.models.brief import brief


@pytest.mark.parametrize(("targets", "rank"), [
    ("all-linear", 8), ("q", 4), (["q", "v"], 2), ("attention", 1), ("mlp", 16),
    (["q", "down"], {"*.0.*": 2, "*": 8}), ("norms", 8), (["v", "norms"], 3),
])  # fmt: skip
def test_words_stay_words(targets, rank):
    model = build("llama")
    chosen = lk.plan(model, targets, rank)
    said, ranks = brief(model, chosen)
    assert lk.plan(model, said, ranks) == chosen
    if not isinstance(rank, dict):
        assert said == targets or len(said) <= len(targets)


@pytest.mark.parametrize("family", CONFIGS)
@given(data=st.data())
@settings(max_examples=15, deadline=None)
def test_any_choice_comes_back(family, data):
    model = build(family)
    every = lk.plan(model, "all-linear")
    some = data.draw(st.lists(st.sampled_from(sorted(every)), min_size=1, unique=True))
    ranks = {path: data.draw(st.sampled_from([1, 4, 8])) for path in every if path in some}
    assert dict(lk.plan(model, *brief(model, ranks))) == ranks


def test_nothing_is_no_plan():
    with pytest.raises(PlanError, match="no layer"):
        brief(build("llama"), {})
