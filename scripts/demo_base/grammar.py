"""A small template engine: fills `<slots>` from word lists and from what a page already knows."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

import words

_SLOT = re.compile(r"<(\^?)(\w+)(?:#(\w+))?>")
_ARTICLE = re.compile(r"\b([Aa])~ (\w+)")
_SENTENCE_START = re.compile(r"((?:^|[.!?] |\n)\"?)([a-z])")
_NAME_ENDS = ("a", "o", "in", "el", "us", "ia", "an", "or", "is", "en", "ette", "wick", "bert", "y")
_PRONOUNS = {
    "he": ("he", "him", "his", "himself"),
    "she": ("she", "her", "her", "herself"),
}


@dataclass(frozen=True)
class Person:
    """A character: a name, what it is, and its pronouns (he, him, his, himself)."""

    name: str
    kind: str
    mood: str
    pronouns: tuple[str, str, str, str]


def _syllable(rng: random.Random) -> str:
    end = rng.choice(words.SYLLABLE_ENDS) if rng.random() < 0.45 else ""
    return rng.choice(words.SYLLABLE_STARTS) + rng.choice(words.SYLLABLE_MIDDLES) + end


def invented_word(rng: random.Random) -> str:
    """A word that means nothing: mostly pronounceable, now and then random letters."""
    style = rng.random()
    if style < 0.06:
        length = rng.randint(3, 8)
        return "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(length))
    if style < 0.45:
        return _syllable(rng) + rng.choice(_NAME_ENDS)
    start = rng.choice(words.SYLLABLE_MIDDLES) if rng.random() < 0.15 else ""
    return start + "".join(_syllable(rng) for _ in range(rng.choice((1, 2, 2, 2, 3))))


def invented_name(rng: random.Random) -> str:
    """An invented word of at least three letters, capitalised."""
    word = invented_word(rng)
    while len(word) < 3:
        word = invented_word(rng)
    return word.capitalize()


def distinct(rng: random.Random, draw: Sequence[str], count: int) -> list[str]:
    """`count` different entries of a list, in random order."""
    return rng.sample(list(draw), count)


def _article(match: re.Match[str]) -> str:
    a, word = match.groups()
    vowel = word[0].lower() in "aeiou" or word.startswith(("honest", "hour"))
    if word.lower().startswith(("use", "uni", "one")):
        vowel = False
    return f"{a}{'n' if vowel else ''} {word}"


def polish(text: str) -> str:
    """Resolves `a~` to `a` or `an` and capitalises the first letter of sentences."""
    text = _ARTICLE.sub(_article, text)
    return _SENTENCE_START.sub(lambda match: match[1] + match[2].upper(), text)


class Page:
    """One document in the making: a random source and the bindings made so far.

    A template may hold `<name>` (a binding, else a fresh choice from the list of that name),
    `<name#tag>` (the same choice wherever the tag returns), and `<^name>` (capitalised).
    """

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.bound: dict[str, str] = {}

    def name(self) -> str:
        """A name: invented more often than not."""
        if self.rng.random() < 0.6:
            return invented_name(self.rng)
        return self.rng.choice(words.GIRLS + words.BOYS)

    def names(self, count: int) -> list[str]:
        """Different names."""
        found: list[str] = []
        while len(found) < count:
            name = self.name()
            if name not in found:
                found.append(name)
        return found

    def person(self, name: str | None = None) -> Person:
        """A character with pronouns that fit its name."""
        name = name or self.name()
        if name in words.GIRLS:
            gender = "she"
        elif name in words.BOYS:
            gender = "he"
        else:
            gender = self.rng.choice(("he", "she"))
        kind = self.fill("<kind>")
        return Person(name, kind, self.fill("<mood>"), _PRONOUNS[gender])

    def cast(self, letters: str = "ABC") -> None:
        """Binds one character per letter: `<A>`, `<A_kind>`, `<A_he>`, `<A_him>`, `<A_his>`..."""
        for letter, name in zip(letters, self.names(len(letters)), strict=True):
            person = self.person(name)
            self.bound[letter] = person.name
            self.bound[f"{letter}_kind"] = person.kind
            self.bound[f"{letter}_mood"] = person.mood
            for form, pronoun in zip(("he", "him", "his", "self"), person.pronouns, strict=True):
                self.bound[f"{letter}_{form}"] = pronoun

    def fill(self, template: str) -> str:
        """The template with every slot filled; entries of lists may hold slots themselves."""
        return _SLOT.sub(self._slot, template)

    def say(self, templates: Sequence[str]) -> str:
        """One of the templates, filled."""
        return self.fill(self.rng.choice(templates))

    def _slot(self, match: re.Match[str]) -> str:
        capital, name, tag = match.groups()
        key = f"{name}#{tag}" if tag else name
        value = self.bound.get(key)
        if value is None and name == "invented":
            value = self.bound[key] = invented_name(self.rng)
        elif value is None:
            value = self.fill(self.rng.choice(words.LISTS[name]))
            if tag:
                self.bound[key] = value
        return value[:1].upper() + value[1:] if capital else value
