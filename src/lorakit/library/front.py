"""Front matter: the YAML between two lines `---` at the head of a Markdown file.

A change replaces the lines of the keys that it sets and leaves every other byte as it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from lorakit.core.errors import LibraryError

MOST = 2**16  # bytes of front matter that are read
_DEEPEST = 20
_BREAKS = ("\\x85", "\\u2028", "\\u2029", "\\ufeff")  # ends of lines to YAML, as repr has them
_FENCE = re.compile(r"\A(\ufeff?---[ \t]*\r?\n)(.*?)^(---[ \t]*(?:\r?\n|\Z))", re.DOTALL | re.M)
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # in C where PyYAML was built so
_DAMAGE = (yaml.YAMLError, ValueError, RecursionError, TypeError, OverflowError, AttributeError)


@dataclass(frozen=True)
class Page:
    """A Markdown file in parts: `fence` and `close` are empty where it has no front matter."""

    fence: str
    front: str
    close: str
    body: str

    @property
    def text(self) -> str:
        """The whole file."""
        return self.fence + self.front + self.close + self.body

    def values(self) -> dict[str, Any]:
        """What the front matter says; nothing where it is damaged or too long."""
        try:
            return parsed(self.front)
        except LibraryError:
            return {}

    def changed(self, values: Mapping[str, Any]) -> Page:
        """The page with these keys set, or taken out where the value is None.

        Raises `LibraryError` where the front matter cannot be read, or not be changed so.
        """
        if all(value is None for value in values.values()) and not self.front.strip():
            return self
        before = parsed(self.front)
        end = "\r\n" if "\r\n" in self.text else "\n"
        front = self.front if self.front.endswith("\n") or not self.front else self.front + end
        spans = _spans(self.front)
        fresh = dict(values)
        for key in sorted(spans.keys() & fresh.keys(), key=lambda key: -spans[key][0]):
            first, last = spans[key]
            front = front[:first] + _written(key, fresh.pop(key), end) + front[last:]
        front += "".join(_written(key, value, end) for key, value in fresh.items())
        gap = end if not self.close and self.body else ""
        page = Page(self.fence or f"---{end}", front, (self.close or f"---{end}") + gap, self.body)
        _check(before, values, front)
        return page


def split(text: str) -> Page:
    """The parts of a Markdown file."""
    found = _FENCE.match(text)
    if found is None:
        return Page("", "", "", text)
    return Page(found[1], found[2], found[3], text[found.end() :])


def parsed(front: str) -> dict[str, Any]:
    """The mapping in some front matter. Raises `LibraryError` where it is none."""
    if len(front) > MOST:
        raise LibraryError(f"The front matter has {len(front)} letters; at most {MOST} are read.")
    try:
        _check_tame(front)
        found = yaml.load(front, Loader=_Loader)
    except _DAMAGE as error:
        why = " ".join(str(error).split())[:200]
        raise LibraryError(f"The front matter is not valid YAML ({why}). Repair it.") from error
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise LibraryError("The front matter is no list of keys and values. Repair it.")
    return {key: value for key, value in found.items() if isinstance(key, str)}


def _check_tame(front: str) -> None:
    """Raise `ValueError` for what may take all memory, or all of the stack of the parser in C."""
    depth = 0
    for event in yaml.parse(front, Loader=_Loader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise ValueError(f"it is nested more than {_DEEPEST} deep")
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("it has anchors, which can stand for any amount of text")


def _spans(front: str) -> dict[str, tuple[int, int]]:
    """Where the lines of each key at the top begin and end."""
    node = yaml.compose(front, Loader=yaml.SafeLoader)
    if node is None:
        return {}
    if node.flow_style:
        raise LibraryError("The front matter is written in braces. Write it with a key a line.")
    return {
        key.value: (front.rfind("\n", 0, key.start_mark.index) + 1, _end(front, key, value))
        for key, value in node.value
    }


def _end(front: str, key: Any, value: Any) -> int:
    """Where the line ends in which a value has its last scalar or bracket."""
    last = value
    while isinstance(last, yaml.CollectionNode) and not last.flow_style and last.value:
        child = last.value[-1]
        last = child[1] if isinstance(child, tuple) else child
    mark = last.end_mark
    # A block of text ends at the beginning of the line behind it.
    if mark.column == 0 and mark.index > key.end_mark.index:
        return mark.index
    line = front.find("\n", max(mark.index, key.end_mark.index))
    return len(front) if line < 0 else line + 1


def _written(key: str, value: Any, end: str) -> str:
    if value is None:
        return ""
    plain = not any(mark in repr(value) for mark in _BREAKS)
    text = yaml.safe_dump({key: value}, sort_keys=False, allow_unicode=plain, width=10_000)
    return text.replace("\n", end)


def _check(before: Mapping[str, Any], values: Mapping[str, Any], front: str) -> None:
    wanted = {key: value for key, value in before.items() if key not in values}
    wanted |= {key: value for key, value in values.items() if value is not None}
    try:
        same = repr(sorted(parsed(front).items())) == repr(sorted(wanted.items()))
    except (LibraryError, ValueError):  # a whole number of too many digits to be shown
        same = False
    if not same:
        raise LibraryError(
            "The front matter is written in a way in which these keys cannot be changed without "
            "others. Write it with a key a line."
        )
