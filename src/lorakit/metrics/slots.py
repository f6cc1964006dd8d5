"""Which slots of an E2E meaning a text realises, and what it says beyond the meaning.

A meaning is `name[Aromi], eatType[coffee shop], area[riverside]` (Novikova et al. 2017). A slot is
realised where the text states its value: a name as it is (accents, case and a leading "The" do not
matter), a closed slot by the rules of `e2e_rules.py`. Beyond the meaning is what a text states of a
closed slot that the meaning does not have, or has with a value that the words cannot mean, and a
place of the data that is neither `name` nor `near`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from lorakit.core.errors import DataError, did_you_mean
from lorakit.metrics.e2e_rules import FAMILY, NOT_FAMILY, PLACES, RULES, plain

NAMES = ("name", "near")
SLOTS = (*NAMES, "familyFriendly", *RULES)
_PAIR = re.compile(r"\s*([^\[\],]+?)\s*\[([^\[\]]*)\]\s*")


@dataclass(frozen=True)
class SlotRow:
    """One text: the slots it realises, those it leaves out, and (slot, value) it adds."""

    found: tuple[str, ...]
    missing: tuple[str, ...]
    added: tuple[tuple[str, str], ...]

    @property
    def statistics(self) -> tuple[int, int, int, int]:
        """Slots realised, slots, whether all are, whether anything is added: sums to a score."""
        slots = len(self.found) + len(self.missing)
        return len(self.found), slots, int(not self.missing), int(bool(self.added))


@dataclass(frozen=True)
class SlotScore:
    """Shares from 0 to 1: of slots realised, of rows with all of theirs, of rows that add some."""

    slots: float
    rows: float
    added: float
    by_slot: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """The shares as JSON."""
        return asdict(self)


def parse(meaning: str) -> dict[str, str]:
    """Slot -> value of a meaning; raises `DataError` where it is not one of E2E."""
    found: dict[str, str] = {}
    for part in re.split(r"(?<=\])\s*,", meaning):
        pair = _PAIR.fullmatch(part)
        if pair is None:
            raise DataError(
                f"{part.strip()!r} in the meaning {meaning!r} is not of the form slot[value]; "
                "write name[Aromi], area[riverside]."
            )
        slot, value = pair.groups()
        if slot not in SLOTS:
            raise DataError(
                f"The meaning {meaning!r} has the slot {slot!r}, which E2E does not."
                f"{did_you_mean(slot, SLOTS)} It has {', '.join(SLOTS)}."
            )
        if slot in found:
            raise DataError(f"The meaning {meaning!r} has the slot {slot!r} twice; keep one.")
        found[slot] = value.strip()
    return found


def slot_rows(meanings: Sequence[str], texts: Sequence[str]) -> list[SlotRow]:
    """What each text realises, leaves out and adds; raises `DataError` as `parse` does."""
    if isinstance(meanings, str) or isinstance(texts, str) or len(meanings) != len(texts):
        raise DataError(
            f"Got {len(texts)} texts for {len(meanings)} meanings; each row needs one of each."
        )
    if not len(meanings):
        raise DataError("Got no rows to score; a metric needs at least one.")
    return [_row(parse(meaning), text) for meaning, text in zip(meanings, texts)]


def slot_accuracy(meanings: Sequence[str], texts: Sequence[str]) -> SlotScore:
    """The shares over all rows."""
    rows = slot_rows(meanings, texts)
    right, slots, whole, added = (sum(column) for column in zip(*(r.statistics for r in rows)))
    found = Counter(slot for row in rows for slot in row.found)
    asked = found + Counter(slot for row in rows for slot in row.missing)
    by_slot = {slot: found[slot] / asked[slot] for slot in SLOTS if slot in asked}
    return SlotScore(right / slots, whole / len(rows), added / len(rows), by_slot)


def _row(meaning: dict[str, str], text: str) -> SlotRow:
    text = plain(text)
    own = [meaning[slot] for slot in NAMES if slot in meaning]
    realised = {slot for slot in NAMES if slot in meaning and _place(meaning[slot]).search(text)}
    # Names go before anything else is looked for: "Raja Indian Cuisine" is no Indian food.
    for place in sorted(own, key=len, reverse=True):
        text = _place(place).sub(" . ", text)
    added = []
    for place in PLACES:
        if place not in own and _place(place).search(text):
            added.append(("place", place))
            text = _place(place).sub(" . ", text)
    for slot, stated in _stated(text).items():
        wanted = meaning.get(slot)
        if any(wanted in values for values, _ in stated):
            realised.add(slot)
        added += [
            (slot, "|".join(sorted(values)))
            for values, firm in dict.fromkeys(stated)
            if firm and wanted not in values
        ]
    ordered = [slot for slot in SLOTS if slot in meaning]
    return SlotRow(
        tuple(slot for slot in ordered if slot in realised),
        tuple(slot for slot in ordered if slot not in realised),
        tuple(added),
    )


def _stated(text: str) -> dict[str, list[tuple[frozenset[str], bool]]]:
    """For each closed slot, what the text says of it: the values it may mean, and if it is firm."""
    found = {
        slot: [(rule.values, rule.firm) for rule in rules if rule.pattern.search(text)]
        for slot, rules in RULES.items()
    }
    rest, against = NOT_FAMILY.pattern.subn(" ", text)
    found["familyFriendly"] = [
        (rule.values, True)
        for rule, said in ((NOT_FAMILY, against), (FAMILY, FAMILY.pattern.search(rest)))
        if said
    ]
    return found


@cache
def _place(name: str) -> re.Pattern[str]:
    """A name in plain text, with or without "the", as a possessive too."""
    words = plain(name).removeprefix("the ").split()
    return re.compile(r"(?:\bthe )?\b" + r"\s+".join(map(re.escape, words)) + r"(?:'?s?)?(?!\w)")
