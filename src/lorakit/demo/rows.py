"""The task of the demo: from the attributes of a creature to a short description of it.

A row's prompt lists attributes, some of them absent, in any order after the name:

    name: Zorvan; home: an old mill; colour: silver; kind: dragon; mood: shy; likes: plum jam

and its completion says the same in one of several wordings:

    Zorvan is a shy silver dragon who lives in an old mill. Nothing makes Zorvan happier than
    plum jam.

Held-out rows pair values that never meet in a training row (a kind with a colour, the two words of
a home, the two words of a food) and use names that no training row has.
"""

from __future__ import annotations

import random
import re
import zlib
from collections.abc import Mapping, Sequence
from typing import TypedDict

KINDS = (
    "badger", "bear", "beetle", "cat", "crow", "dragon", "elf", "fox", "frog", "giant", "goat",
    "goblin", "hare", "hedgehog", "lion", "lizard", "mole", "mouse", "otter", "owl", "rabbit",
    "raven", "robot", "snail", "spider", "toad", "troll", "turtle", "wizard", "wolf",
)  # fmt: skip
COLOURS = (
    "black", "blue", "brown", "golden", "green", "grey", "orange", "pink", "purple", "red",
    "scarlet", "silver", "spotted", "striped", "violet", "white", "yellow",
)  # fmt: skip
MOODS = (
    "brave", "cheerful", "clever", "curious", "dreamy", "gentle", "greedy", "grumpy", "lazy",
    "lonely", "loyal", "merry", "nervous", "polite", "proud", "quiet", "shy", "sleepy", "sly",
    "stubborn", "wise",
)  # fmt: skip
HOME_WORDS = (
    "abandoned", "cosy", "crooked", "dusty", "empty", "haunted", "hidden", "misty", "noisy", "old",
    "ruined", "snowy", "sunny", "tiny", "windy",
)  # fmt: skip
HOMES = (
    "barn", "bakery", "castle", "cave", "cellar", "chapel", "garden", "library", "lighthouse",
    "mill", "museum", "orchard", "palace", "quarry", "stable", "swamp", "theatre", "tower",
    "village", "workshop",
)  # fmt: skip
FLAVOURS = (
    "almond", "apple", "barley", "carrot", "cheese", "cherry", "ginger", "honey", "lemon", "mint",
    "mushroom", "nettle", "onion", "pear", "plum", "pumpkin", "rhubarb", "walnut",
)  # fmt: skip
DISHES = (
    "biscuits", "bread", "broth", "cake", "dumplings", "jam", "pancakes", "pickles", "pie",
    "porridge", "pudding", "soup", "stew", "tart", "tea",
)  # fmt: skip
_NAME_STARTS = (
    "Bal", "Bren", "Cor", "Dag", "Dor", "El", "Fen", "Gal", "Grim", "Hal", "Il", "Jor", "Kas",
    "Kel", "Lor", "Mar", "Mir", "Mor", "Nim", "Ol", "Per", "Pim", "Quil", "Ras", "Rob", "Sel",
    "Sim", "Tal", "Thor", "Tol", "Ul", "Var", "Wen", "Yor", "Zan", "Zor",
)  # fmt: skip
_NAME_MIDDLES = (
    "", "", "a", "am", "bi", "de", "e", "go", "i", "ki", "la", "mo", "o", "ri", "u", "va",
)  # fmt: skip
_NAME_ENDS = (
    "bin", "da", "del", "dric", "fa", "gus", "ka", "lan", "lia", "mir", "na", "nox", "o", "pha",
    "ric", "sa", "thas", "tix", "van", "wick", "ya", "zel",
)  # fmt: skip

_OPENINGS = (
    "{name} is {a_kind} who lives in {home}.",
    "In {home} lives {name}, {a_kind}.",
    "Meet {name}, {a_kind} from {home}.",
)
_LIKES_AND_FRIEND = (
    "Nothing makes {name} happier than {likes}, and {friend} always brings some.",
    "Come by with {likes}, and both {name} and {friend} will dance for joy.",
    "Every evening {name} shares some {likes} with {friend}.",
)
_LIKES = (
    "Nothing makes {name} happier than {likes}.",
    "Come by with {likes}, and {name} will dance for joy.",
    "Every evening {name} asks for some {likes}.",
)
_FRIEND = (
    "Nothing makes {name} happier than a visit from {friend}.",
    "Come by with {friend}, and {name} will dance for joy.",
    "Every evening {name} plays cards with {friend}.",
)
_PRESENT = {"colour": 0.85, "mood": 0.85, "likes": 0.85, "friend": 0.5}
_HELD_OUT_ONE_IN = 5


class Row(TypedDict):
    """One example: the prompt with its line end, the completion, and what the prompt lists."""

    prompt: str
    completion: str
    attributes: dict[str, str]


def rows(count: int, *, seed: int, held_out: bool = False) -> list[Row]:
    """`count` rows, the same for the same seed; `held_out` selects what training never shows."""
    rng = random.Random(f"{seed}/{held_out}")
    return [_row(rng, held_out) for _ in range(count)]


def slot_accuracy(rows: Sequence[Row], texts: Sequence[str]) -> tuple[float, float]:
    """The share of attribute values found in the texts, and the share of texts with all of theirs.

    A value counts where it stands as a whole word or phrase, in upper or lower case.
    """
    if not rows or len(rows) != len(texts):
        raise ValueError(f"need one text for each row, got {len(texts)} for {len(rows)} rows")
    slots = right = whole = 0
    for row, text in zip(rows, texts, strict=True):
        found = [contains(text, value) for value in row["attributes"].values()]
        slots += len(found)
        right += sum(found)
        whole += all(found)
    return right / slots, whole / len(rows)


def contains(text: str, value: str) -> bool:
    """Whether the value stands in the text as a whole word or phrase, whatever the case."""
    return re.search(rf"(?<!\w){re.escape(value)}(?!\w)", text, re.IGNORECASE) is not None


def prompt(attributes: Mapping[str, str]) -> str:
    """The prompt that lists the attributes in their order."""
    return "; ".join(f"{key}: {value}" for key, value in attributes.items()) + "\n"


def _row(rng: random.Random, held_out: bool) -> Row:
    attributes = _attributes(rng, held_out)
    completion = _completion(rng, attributes)
    name = attributes.pop("name")
    rest = list(attributes.items())
    rng.shuffle(rest)
    ordered = {"name": name, **dict(rest)}
    return {"prompt": prompt(ordered), "completion": completion, "attributes": ordered}


def _attributes(rng: random.Random, held_out: bool) -> dict[str, str]:
    kind, colour = _pair(rng, KINDS, COLOURS, held_out)
    place = " ".join(_pair(rng, HOME_WORDS, HOMES, held_out))
    name, friend = _name(rng, held_out), _name(rng, held_out)
    while friend == name:
        friend = _name(rng, held_out)
    everything = {
        "name": name,
        "kind": kind,
        "colour": colour,
        "mood": rng.choice(MOODS),
        "home": _with_article(place),
        "likes": " ".join(_pair(rng, FLAVOURS, DISHES, held_out)),
        "friend": friend,
    }
    return {
        key: value for key, value in everything.items() if rng.random() < _PRESENT.get(key, 1.0)
    }


def _pair(
    rng: random.Random, first: Sequence[str], second: Sequence[str], held_out: bool
) -> tuple[str, str]:
    """Two values, the sum of whose places in their lists tells training from held-out pairs."""
    while True:
        one, two = rng.randrange(len(first)), rng.randrange(len(second))
        if ((one + two) % _HELD_OUT_ONE_IN == 0) == held_out:
            return first[one], second[two]


def _name(rng: random.Random, held_out: bool) -> str:
    while True:
        name = rng.choice(_NAME_STARTS) + rng.choice(_NAME_MIDDLES) + rng.choice(_NAME_ENDS)
        if (zlib.crc32(name.encode()) % _HELD_OUT_ONE_IN == 0) == held_out:
            return name


def _completion(rng: random.Random, attributes: Mapping[str, str]) -> str:
    words = [attributes[key] for key in ("mood", "colour", "kind") if key in attributes]
    values = {**attributes, "a_kind": _with_article(" ".join(words))}
    sentences = [rng.choice(_OPENINGS)]
    if "likes" in attributes and "friend" in attributes:
        sentences.append(rng.choice(_LIKES_AND_FRIEND))
    elif "likes" in attributes:
        sentences.append(rng.choice(_LIKES))
    elif "friend" in attributes:
        sentences.append(rng.choice(_FRIEND))
    return " ".join(sentences).format(**values)


def _with_article(phrase: str) -> str:
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"
