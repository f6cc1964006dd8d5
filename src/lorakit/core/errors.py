"""Every error that lorakit raises on purpose.

A message says what was got, what was expected, and one way out. Whatever raises one of these has
changed nothing: models, files and folders are as they were.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LorakitError(Exception):
    """The root of all of lorakit's errors."""


class PlanError(LorakitError):
    """A plan, target or rank that does not fit the model."""


class UnsupportedError(LorakitError):
    """A layer, method or file feature that lorakit refuses rather than gets wrong."""


class AdapterNameError(LorakitError):
    """A name that is not usable, is taken, or that no adapter has."""


class RoutingError(LorakitError):
    """Adapters cannot act the way that was asked for."""


class DeadAdapterError(LorakitError):
    """An adapter that training cannot reach: its parameters got no gradient."""


class MergeError(LorakitError):
    """A merge, unmerge or export that cannot be done exactly."""


class AdapterFileError(LorakitError):
    """An adapter on disk that is damaged, incomplete, foreign or contradicts itself."""


class BaseMismatchError(AdapterFileError):
    """An adapter that belongs to another base model."""


class SaveError(LorakitError):
    """A folder that cannot be written, or must not be overwritten."""


class ModelError(LorakitError):
    """A base model that is not there or cannot be used for the task."""


class RecipeError(LorakitError):
    """A recipe with an unknown field or a value that cannot be meant."""


class DataError(LorakitError):
    """Data that are not there, or a row that cannot be used."""


class TrainingError(LorakitError):
    """A run that stopped because going on would be wrong."""


class Stopped(TrainingError):
    """Training was stopped by its user; it is saved, and can go on."""


class ResumeError(TrainingError):
    """A run that cannot be resumed as asked."""


class QueueError(LorakitError):
    """A job or run that is not there, or not in a state for what was asked of it."""


class LibraryError(LorakitError):
    """An adapter of a library that is not there, or cannot be moved, changed or brought back."""


class OutsideError(LibraryError):
    """A path that is not inside the folders of the library."""


class HubError(LorakitError):
    """The hub cannot be asked, or does not have what was asked for."""


class MissingExtraError(LorakitError):
    """An optional dependency that is not installed."""


# What Python raises where values from a file are of another kind or size than they must be.
ODDITIES = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


def nearest(word: str, known: Iterable[str], count: int = 3) -> list[str]:
    """The `count` entries of `known` that look most like `word`, best first; case is ignored."""
    lowered: dict[str, str] = {}
    for entry in known:
        lowered.setdefault(entry.lower(), entry)
    return [
        lowered[hit] for hit in difflib.get_close_matches(str(word).lower(), lowered, count, 0.5)
    ]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A closing sentence for a message, or nothing where no entry of `known` resembles `word`."""
    hits = nearest(word, known)
    return f" Did you mean {' or '.join(repr(hit) for hit in hits)}?" if hits else ""


def first_line(error: BaseException) -> str:
    """What an error of another library says first, or its name where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def shortlist(items: Iterable[str], limit: int = 4) -> str:
    """The first `limit` items, comma-separated, and how many more there are."""
    listed = list(items)
    shown = ", ".join(listed[:limit])
    return shown + (f" and {len(listed) - limit} more" if len(listed) > limit else "")
