"""A study's own options: known names, and values of the kind that their defaults have."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping
from typing import Any

from lorakit.core.errors import RecipeError, did_you_mean
from lorakit.study.kinds import Setting, Study

PREFIX = "study."


def chosen_options(study: Study, given: Mapping[str, Any], *, quick: bool) -> dict[str, Any]:
    """The study's options with what was given set over them; `RecipeError` for what cannot be."""
    options = study.options(quick=quick)
    for name, value in given.items():
        if name not in options:
            raise RecipeError(
                f"{PREFIX}{name} is no option of {study.name}: {', '.join(options)}."
                f"{did_you_mean(name, options)}"
            )
        read = _read(value, options[name])
        if not _fits(read, options[name]):
            raise RecipeError(
                f"{PREFIX}{name} is {value!r}; expected something like {options[name]!r}."
            )
        options[name] = read
    return options


def one_of(setting: Setting, name: str, known: Collection[str]) -> str:
    """The value of an option that is a word, or `RecipeError` where it is none of the known."""
    value = setting.option(name)
    if value not in known:
        raise RecipeError(
            f"{PREFIX}{name} is {value!r}; expected {', '.join(known)}.{did_you_mean(value, known)}"
        )
    return value


def _read(value: Any, default: Any) -> Any:
    """The value, with numbers such as 1e-4 read that YAML takes for text for want of a point."""
    if isinstance(value, list) and isinstance(default, list) and default:
        return [_read(own, default[0]) for own in value]
    if isinstance(value, str) and isinstance(default, float):
        with contextlib.suppress(ValueError):
            return float(value)
    return value


def _fits(value: Any, default: Any) -> bool:
    """Whether a value is of the default's kind; whole numbers are 0 only where a default is."""
    if isinstance(default, list):
        if not isinstance(value, list) or not value:
            return False
        kinds = default if all(_is_number(own) for own in default) else default[:1]
        return all(any(_fits(own, kind) for kind in kinds) for own in value)
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    if isinstance(default, int):
        return isinstance(value, int) and value >= min(default, 1)
    if isinstance(default, float):
        return _is_number(value)
    return isinstance(value, type(default))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
