"""How metrics cut a text into words, and count them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

_PIECE = r"(?:\d+(?:[.,:]\d+)+|\w+)"
_CAPTION = re.compile(rf"n't|'(?:s|re|ve|ll|d|m)\b|{_PIECE}(?:-{_PIECE})*|[£$€%&#@]")


def caption_words(text: str) -> list[str]:
    """Lower-case words without punctuation, nearly those of the COCO caption evaluation.

    That one runs Stanford's Penn Treebank tokenizer (Java) and drops punctuation (Chen et al.
    2015). Here, too, "isn't" is two words, "family-friendly" and "20.50" are one each, and currency
    signs stay; rarer rules (abbreviations with full stops) are not followed.
    """
    text = text.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    return _CAPTION.findall(re.sub(r"n't\b", " n't", text))


def ngrams(words: Sequence[str], order: int) -> Counter[tuple[str, ...]]:
    """How often each run of `order` words stands in the text; none where it is shorter."""
    return Counter(zip(*(words[start:] for start in range(order))))
