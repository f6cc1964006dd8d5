"""What is typed is words, and never the language of the index."""

from __future__ import annotations

import sqlite3

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorakit.library.words import TOKENIZER, match, words


@pytest.mark.parametrize(("text", "expected"), [
    ("E2E-lora v2", ["e2e", "lora", "v2"]), ("Crème brûlée", ["creme", "brulee"]),
    ("my_style.v3", ["my", "style", "v3"]), ("🔥hot", ["🔥", "hot"]),
    ("日本語", ["日", "本", "語"]), ("Straße ﬁn", ["strasse", "fin"]), ('"*-()', []), ("", []),
])  # fmt: skip
def test_words(text, expected):
    assert words(text) == expected


@pytest.mark.parametrize(("text", "query"), [
    ("poet", '"poet"*'), ("e2e-lo fr", '"e2e lo"* AND "fr"*'), ("NEAR(a b)", '"near a"* AND "b"*'),
    ('"', ""), ("* - 🔥", '"🔥"*'), ("a OR b NOT c", '"a"* AND "or"* AND "b"* AND "not"* AND "c"*'),
])  # fmt: skip
def test_queries(text, query):
    assert match(text) == query


@pytest.fixture(scope="module")
def index():
    connection = sqlite3.connect(":memory:")
    connection.execute(f'CREATE VIRTUAL TABLE texts USING fts5 (words, tokenize="{TOKENIZER}")')
    yield connection
    connection.close()


@settings(max_examples=300, deadline=None)
@given(text=st.text(max_size=40), cut=st.integers(0, 5))
def test_every_text_is_found_by_itself_and_by_its_beginning(index, text, cut):
    index.execute("DELETE FROM texts")
    index.execute("INSERT INTO texts VALUES (?)", (" ".join(words(text)),))
    query = match(text)
    found = index.execute("SELECT 1 FROM texts WHERE texts MATCH ?", (query or "x",)).fetchall()
    assert found or not query
    first = words(text)[:1]
    if first:
        begin = match(first[0][: max(1, len(first[0]) - cut)])
        if begin:
            assert index.execute("SELECT 1 FROM texts WHERE texts MATCH ?", (begin,)).fetchall()
