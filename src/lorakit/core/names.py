"""Adapter names: labels that people choose, never part of a path, a module or a pattern."""

from __future__ import annotations

import unicodedata

from lorakit.core.errors import AdapterNameError

LONGEST_NAME = 100


def check_name(name: object) -> str:
    """Return `name` in Unicode normal form C, or raise `AdapterNameError`."""
    if not isinstance(name, str):
        raise AdapterNameError(
            f"An adapter's name must be text, got {type(name).__name__}. Pass name='my-adapter'."
        )
    label = unicodedata.normalize("NFC", name)
    problem = _problem(label)
    if problem:
        raise AdapterNameError(
            f"{name!r} cannot name an adapter: {problem}. Use letters, digits, spaces or "
            f"punctuation other than slashes, at most {LONGEST_NAME} characters."
        )
    return label


def fold(label: str) -> str:
    """The form under which two names count as the same."""
    return unicodedata.normalize("NFC", label.casefold())


def _problem(label: str) -> str | None:
    if not label:
        return "it is empty"
    if len(label) > LONGEST_NAME:
        return f"it has {len(label)} characters"
    if label != label.strip():
        return "it begins or ends with white space"
    if not all(char.isprintable() for char in label):
        return "it holds a character that cannot be printed"
    if "/" in label or "\\" in label:
        return "it holds a slash"
    if label.strip(".") == "":
        return "it is nothing but dots"
    return None
