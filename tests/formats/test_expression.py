from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from lorakit.core.errors import LorakitError
from lorakit.formats.expression import fullmatch

atoms = st.sampled_from(
    [
        "a",
        "b",
        "x",
        r"\.",
        r"\b",
        ".",
        "[ab]",
        "[^a]",
        "[a-c]",
        r"\d",
        r"\w",
        "^",
        "$",
        "(?:ab)",
        "(a|b)",
    ]
)
repeats = st.sampled_from(["", "", "", "*", "+", "?", "{2}", "{1,3}", "{2,}", "{0,2}", "*?"])
expressions = st.recursive(
    st.tuples(atoms, repeats).map("".join),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map("".join),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: f"({'|'.join(parts)})"),
    ),
    max_leaves=8,
)


@settings(max_examples=400, deadline=None)
@given(expressions, st.text(alphabet="abcx.1", max_size=8))
def test_it_says_what_re_says(expression, text):
    try:
        expected = bool(re.fullmatch(expression, text))
    except re.error:
        reject()  # `re` has rules of its own for repeated anchors
    assert fullmatch(expression, text) is expected


@pytest.mark.parametrize(
    ("expression", "path", "matches"),
    [
        (r".*\.(q|v)_proj", "model.layers.0.self_attn.q_proj", True),
        (r".*\.(q|v)_proj", "model.layers.0.self_attn.k_proj", False),
        (r"model\.layers\.([0-9]|1[0-5])\..*", "model.layers.15.mlp", True),
        (r"model\.layers\.([0-9]|1[0-5])\..*", "model.layers.16.mlp", False),
        (r"^transformer.h.0.attn.c_attn$", "transformer.h.0.attn.c_attn", True),
    ],
)
def test_what_people_write(expression, path, matches):
    assert fullmatch(expression, path) is matches


def test_an_expression_that_would_hang_re_is_answered_at_once():
    began = time.perf_counter()
    assert not fullmatch("(a*)*b", "a" * 5000)
    assert time.perf_counter() - began < 1


@pytest.mark.parametrize(
    "expression",
    ["(", ")", "a)", "[a", "*a", "a**", "(?=a)", "(?P<x>a)", r"(a)\1", "a{1,x}", "(" * 999, "\\",
     "a{9}{9}", "(((((a{99}){99}){99}){99}){99})", "a" * 30_000],
)  # fmt: skip
def test_what_it_cannot_read_is_a_typed_error(expression):
    with pytest.raises(LorakitError, match="is not read"):
        fullmatch(expression, "a")
