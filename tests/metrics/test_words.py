from __future__ import annotations

import pytest

from lorakit.metrics.words import caption_words, ngrams


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Aromi is family-friendly.", ["aromi", "is", "family-friendly"]),
        ("It isn't cheap; it's £20.50!", ["it", "is", "n't", "cheap", "it", "'s", "£", "20.50"]),
        ("Near the river. Prices: 20-25", ["near", "the", "river", "prices", "20-25"]),
        ("Café “Rouge”, 5 out of 5", ["café", "rouge", "5", "out", "of", "5"]),
        ("they\N{RIGHT SINGLE QUOTATION MARK}re ...", ["they", "'re"]),
        ("", []),
    ],
)
def test_caption_words(text, words):
    assert caption_words(text) == words


def test_ngrams_are_counted():
    assert ngrams(["a", "b", "a", "b"], 2) == {("a", "b"): 2, ("b", "a"): 1}
    assert not ngrams(["a"], 2)
