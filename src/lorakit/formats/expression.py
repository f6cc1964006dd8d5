"""Regular expressions from files that others wrote, matched in linear time.

A PEFT config may hold regular expressions (`target_modules`, `rank_pattern`, `alpha_pattern`).
Python's `re` backtracks, so that a hostile one hangs a load for hours; and to ignore them would
load a wrong scale. This matcher walks all alternatives at once (Thompson 1968): its time is the
length of the text times that of the expression. What it does not know it refuses.
"""

from __future__ import annotations

import string
from collections.abc import Callable
from functools import lru_cache

from lorakit.core.errors import UnsupportedError

LONGEST = 20_000
MOST_STATES = 50_000
DEEPEST = 50
_CLASSES: dict[str, Callable[[str], bool]] = {
    "d": str.isdigit,
    "D": lambda char: not char.isdigit(),
    "w": lambda char: char.isalnum() or char == "_",
    "W": lambda char: not (char.isalnum() or char == "_"),
    "s": str.isspace,
    "S": lambda char: not char.isspace(),
}


def fullmatch(expression: str, text: str) -> bool:
    """Whether the whole text matches, as `re.fullmatch` would say, or `UnsupportedError`."""
    return _compiled(expression).matches(text)


@lru_cache(maxsize=256)
def _compiled(expression: str) -> _Machine:
    return _Machine(expression)


def _holds(anchor: str, position: int, text: str) -> bool:
    """Whether the beginning, the end, or the edge of a word is at a position."""
    if anchor != "b":
        return position == (0 if anchor == "^" else len(text))
    before, after = text[:position][-1:], text[position:][:1]
    return _is_word(before) != _is_word(after)


def _is_word(char: str) -> bool:
    return char.isalnum() or char == "_"


class _Machine:
    """A nondeterministic automaton: state i is a test of a character, a fork or an anchor."""

    def __init__(self, expression: str):
        self.text = expression
        self.at = 0
        self.depth = 0
        if len(expression) > LONGEST:
            self._refuse("it is too long")
        self.tests: list[Callable[[str], bool] | str | None] = []
        self.next: list[list[int]] = []
        start, ends = self._alternatives()
        if self.at != len(expression):
            self._refuse("a bracket closes that never opened")
        self.start = start
        self.accept = self._state(None, [])
        self._join(ends, self.accept)

    def matches(self, text: str) -> bool:
        """Whether the whole text leads from the start to the end."""
        current = self._closure({self.start}, 0, text)
        for position, char in enumerate(text, 1):
            stepped = {
                target
                for state in current
                if callable(test := self.tests[state]) and test(char)
                for target in self.next[state]
            }
            if not stepped:
                return False
            current = self._closure(stepped, position, text)
        return self.accept in current

    def _closure(self, states: set[int], position: int, text: str) -> set[int]:
        """All states that are reached without reading a character."""
        found, waiting = set(states), list(states)
        while waiting:
            state = waiting.pop()
            test = self.tests[state]
            if callable(test) or (test is not None and not _holds(test, position, text)):
                continue
            fresh = [target for target in self.next[state] if target not in found]
            found.update(fresh)
            waiting += fresh
        return found

    def _alternatives(self) -> tuple[int, list[int]]:
        starts, ends = [], []
        while True:
            start, tails = self._sequence()
            starts.append(start)
            ends += tails
            if self._peek() != "|":
                break
            self.at += 1
        return (starts[0] if len(starts) == 1 else self._state(None, starts)), ends

    def _sequence(self) -> tuple[int, list[int]]:
        start = self._state(None, [])
        ends = [start]
        while self._peek() not in ("", "|", ")"):
            first, tails = self._repeated()
            self._join(ends, first)
            ends = tails
        return start, ends

    def _repeated(self) -> tuple[int, list[int]]:
        begin = self.at
        start, ends = self._atom()
        low, high = self._quantifier()
        if (low, high) == (1, 1):
            return start, ends
        if high is None and low <= 1:
            fork = self._state(None, [start])
            self._join(ends, fork)
            return (start, [fork]) if low else (fork, [fork])
        if (low, high) == (0, 1):
            fork = self._state(None, [start])
            return fork, [fork, *ends]
        return self._counted(begin, low, high)

    def _counted(self, begin: int, low: int, high: int | None) -> tuple[int, list[int]]:
        """Write `x{2,4}` out as `xxx?x?`, reading the atom again for each copy."""
        after = self.at
        most = low if high is None else high
        start = self._state(None, [])
        ends, loose = [start], []
        for number in range(most):
            self.at = begin
            first, tails = self._atom()
            if number >= low:
                loose += ends
            self._join(ends, first)
            ends = tails
            if high is None and number == most - 1:
                fork = self._state(None, [first])
                self._join(ends, fork)
                ends = [fork]
        self.at = after
        return start, [*ends, *loose]

    def _quantifier(self) -> tuple[int, int | None]:
        simple: dict[str, tuple[int, int | None]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}
        char = self._peek()
        if char in simple:
            self.at += 1
            found = simple[char]
        elif char == "{" and "}" in self.text[self.at :]:
            close = self.text.index("}", self.at)
            low, comma, high = self.text[self.at + 1 : close].partition(",")
            if not low.isdecimal() or (high and not high.isdecimal()):
                self._refuse("a repeat is not {n}, {n,} or {n,m}")
            self.at = close + 1
            found = (int(low), int(high) if high else None if comma else int(low))
        else:
            return 1, 1
        if self._peek() == "?":  # a lazy repeat matches the same texts
            self.at += 1
        if self._peek() and self._peek() in "*+{":
            self._refuse("a repeat follows a repeat")
        return found

    def _atom(self) -> tuple[int, list[int]]:
        char = self.text[self.at]
        self.at += 1
        if char == "(":
            return self._group()
        if char in "^$":
            state = self._state(char, [])
        elif char == ".":
            state = self._state(lambda other: other != "\n", [])
        elif char == "[":
            state = self._state(self._set(), [])
        elif char == "\\" and self._peek() == "b":
            self.at += 1
            state = self._state("b", [])
        elif char == "\\":
            state = self._state(self._escape(), [])
        elif char in "*+?{":
            self._refuse(f"nothing stands before {char!r}")
        else:
            state = self._state(lambda other, char=char: other == char, [])
        return state, [state]

    def _group(self) -> tuple[int, list[int]]:
        if self._peek() == "?":
            if self.text[self.at : self.at + 2] != "?:":
                self._refuse("it looks ahead, names a group or sets a flag")
            self.at += 2
        self.depth += 1
        if self.depth > DEEPEST:
            self._refuse("its brackets are too deep")
        start, ends = self._alternatives()
        if self._peek() != ")":
            self._refuse("a bracket is never closed")
        self.depth -= 1
        self.at += 1
        return start, ends

    def _escape(self) -> Callable[[str], bool]:
        char = self._peek()
        self.at += 1
        if char in _CLASSES:
            return _CLASSES[char]
        if not char or char in string.ascii_letters + string.digits:
            self._refuse(f"it holds \\{char}")
        return lambda other: other == char

    def _set(self) -> Callable[[str], bool]:
        inverted = self._peek() == "^"
        self.at += inverted
        tests: list[Callable[[str], bool]] = []
        while self._peek() != "]" or not tests:
            low = self._peek()
            if not low:
                self._refuse("a set is never closed")
            self.at += 1
            if low == "\\":
                tests.append(self._escape())
            elif self._peek() == "-" and self.text[self.at + 1 : self.at + 2] not in ("]", ""):
                high = self.text[self.at + 1]
                self.at += 2
                tests.append(lambda other, low=low, high=high: low <= other <= high)
            else:
                tests.append(lambda other, low=low: other == low)
        self.at += 1
        return lambda other: any(test(other) for test in tests) != inverted

    def _peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def _state(self, test: Callable[[str], bool] | str | None, targets: list[int]) -> int:
        if len(self.tests) >= MOST_STATES:
            self._refuse("it is too large")
        self.tests.append(test)
        self.next.append(targets)
        return len(self.tests) - 1

    def _join(self, ends: list[int], target: int) -> None:
        for end in ends:
            self.next[end].append(target)

    def _refuse(self, why: str) -> None:
        shown = self.text if len(self.text) <= 60 else self.text[:57] + "..."
        raise UnsupportedError(
            f"The expression {shown!r} is not read: {why}. Write the module names out in full."
        )
