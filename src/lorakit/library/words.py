"""Texts as words to search by: what people type is only ever that, whatever it looks like."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

_MOST = 32  # words of one search
# Scripts that are written without spaces: each letter is a word, and some together are a phrase.
_ALONE = ((0x3040, 0x30FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF),
          (0x0E00, 0x0E7F), (0xAC00, 0xD7A3), (0x20000, 0x3FFFF))  # fmt: skip
# The index takes our words as they are: everything but white space belongs to one.
TOKENIZER = "unicode61 remove_diacritics 0 categories 'L* M* N* P* S* Co Cn'"


def words(text: str) -> list[str]:
    """The words of a text in lower case and without accents; a symbol or an emoji is one, too."""
    return list(_words(unicodedata.normalize("NFKD", text).casefold()))


def match(text: str) -> str:
    """A query of FTS5 for all that was typed, each word as a beginning; "" where there is none.

    What is typed without a space between belongs together: "e2e-lora" is found as these two words
    next to each other.
    """
    phrases = [words(part) for part in text.split()[:_MOST]]
    return " AND ".join(f'"{" ".join(phrase[:_MOST])}"*' for phrase in phrases if phrase)


def _words(text: str) -> Iterator[str]:
    current = ""
    for char in text:
        kind = unicodedata.category(char)
        if kind[0] == "M" and not _alone(char):
            continue  # an accent of the letter before
        letter = kind[0] in "LN" and not _alone(char)
        if letter:
            current += char
            continue
        if current:
            yield current
            current = ""
        if kind == "So" or _alone(char):
            yield char
    if current:
        yield current


def _alone(char: str) -> bool:
    return any(first <= ord(char) <= last for first, last in _ALONE)
