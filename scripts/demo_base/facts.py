"""Pages that state facts about invented characters and then use them in another form and order.

Cards and texts are made as templates first, with the slots `<N>` for the name and `<t_home>`,
`<t_food>`, ... for the facts, so that one wording can serve several characters.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from grammar import Page, invented_name, invented_word
from traits import TRAITS

NAME_KEYS = ("called", "name", "who", "known as", "signed", "title")
HEADINGS = ("<N>", "<N>.", "The card of <N>", "All about <N>", "= <N> =", "No. <number>, <N>")
CUES = (
    "In words.",
    "Told in full.",
    "This means the following.",
    "So we know this.",
    "Read aloud.",
    "Here is the same as a text.",
    "As a story.",
    "The teacher made sentences of it.",
)
BULLETS = ("", "", "", "- ", "* ", "+ ", "~ ", "> ")
MARKS = (" = ", " - ", " -> ", " ... ", " is ", "? ", ", ", " | ", "=", " * ", " (", " [")
CLOSING_MARKS = {" (": ")", " [": "]"}
ONE_LINE = (" / ", " | ", " + ", ". ", " & ", ", ")
# Marks and joins for one-line cards that nothing makes use of.
LONELY_LAYOUTS = [
    (mark, join)
    for mark in (*MARKS, ": ", ": ", ": ", " : ", ":", ": ")
    for join in (*ONE_LINE, "; ", "; ", "; ", ";", " ; ")
    if not (":" in mark and ";" in join)
]
OPENINGS = (
    "<N> is a~ {}.",
    "<N> is a~ {}.",
    "This is <N>, a~ {}.",
    "Here comes <N>, the {}.",
    "A~ {} is called <N>.",
    "Have you heard of <N>, the {}?",
    "There goes a~ {}: <N>.",
    "Who is <N>? A~ {}.",
)

Traits = Sequence[str]


def choose_traits(rng: Random, low: int, high: int) -> list[str]:
    """Different traits in random order, those with more weight more often."""
    names = list(TRAITS)
    weights = [TRAITS[name].weight for name in names]
    count = rng.randint(low, high)
    chosen: list[str] = []
    while len(chosen) < count:
        name = rng.choices(names, weights)[0]
        if name not in chosen:
            chosen.append(name)
    return chosen


def introduce(page: Page, traits: Traits) -> None:
    """Binds a new character: its name and a value for each trait."""
    page.bound["N"] = page.name()
    for trait in traits:
        page.bound["invented"] = invented_name(page.rng)
        count = page.rng.choice((1, 1, 2))
        page.bound["nonsense"] = " ".join(invented_word(page.rng) for _ in range(count))
        page.bound[f"t_{trait}"] = page.fill(TRAITS[trait].value)


def card(rng: Random, traits: Traits, lonely: bool = False) -> str:
    """The template of a card: the facts as keys and values in one of many layouts.

    A lonely card is one line without a heading, which other cards seldom are.
    """
    mark, bullet, join = rng.choice(MARKS), rng.choice(BULLETS), "\n"
    if lonely:
        bullet, (mark, join) = "", rng.choice(LONELY_LAYOUTS)
    elif rng.random() < 0.2:
        bullet, join = "", rng.choice(ONE_LINE)
    capital = rng.choice(("", "", "^"))
    turned = rng.random() < 0.3

    def line(key: str, slot: str) -> str:
        left, right = (slot, key) if turned else (key, slot)
        if capital:
            left = left.replace("<", "<^") if turned else left.capitalize()
        return f"{bullet}{left}{mark}{right}{CLOSING_MARKS.get(mark, '')}"

    lines = [line(rng.choice(TRAITS[trait].keys), f"<t_{trait}>") for trait in _mixed(rng, traits)]
    if not lonely and rng.random() < 0.4:
        return rng.choice(HEADINGS) + "\n" + join.join(lines)
    place = 0 if rng.random() < 0.6 else rng.randrange(len(lines) + 1)
    lines.insert(place, line(rng.choice(NAME_KEYS), "<N>"))
    return join.join(lines)


def prose(rng: Random, traits: Traits) -> str:
    """The template of a text with the facts in a new order, some of them in one sentence."""
    sentences, left = [], _mixed(rng, traits)
    if rng.random() < 0.7:
        opening, used = _opening(rng, left)
        sentences.append(opening)
        left = [trait for trait in left if trait not in used]
    sentences += [_about(rng, trait, TRAITS[trait].says) for trait in left]
    return " ".join(sentences)


def _mixed(rng: Random, traits: Traits) -> list[str]:
    return rng.sample(list(traits), len(traits))


def _about(rng: Random, trait: str, wordings: Sequence[str]) -> str:
    return rng.choice(wordings).replace("<V>", f"<t_{trait}>").replace("<^V>", f"<^t_{trait}>")


def _opening(rng: Random, traits: Traits) -> tuple[str, set[str]]:
    """A sentence that joins up to five facts, and the traits it has used."""
    adjectives = [trait for trait in traits if trait in ("temper", "shade")]
    used = {*adjectives, *({"being"} & set(traits))}
    noun = "<t_being>" if "being" in used else rng.choice(("stranger", "fellow", "person"))
    words = [f"<t_{trait}>" for trait in adjectives] + [noun]
    more = [trait for trait in traits if TRAITS[trait].parts][: rng.choice((0, 1, 1, 2))]
    words.append(" and ".join(_about(rng, trait, TRAITS[trait].parts) for trait in more))
    used.update(more)
    return rng.choice(OPENINGS).format(" ".join(filter(None, words))), used


def _questions(page: Page, traits: Traits, count: int) -> str:
    rng, pairs = page.rng, []
    for trait in _mixed(rng, traits)[:count]:
        answer = rng.choice(("<^V>.", "<^V>.", rng.choice(TRAITS[trait].says)))
        pairs.append(_about(rng, trait, TRAITS[trait].asks) + " " + _about(rng, trait, (answer,)))
    return page.fill(rng.choice((" ", "\n")).join(pairs))


def _who(page: Page, trait: str) -> str:
    """A question from the value of a trait to the name, or nothing if no wording serves."""
    says = [line for line in TRAITS[trait].says if line.startswith("<N> ")]
    if not says:
        return ""
    line = _about(page.rng, trait, says).replace("<N>", "who", 1)
    return page.fill(f"{line[:-1]}? <N>.")


def card_then_prose(page: Page) -> str:
    """A card, a cue, and the facts of the card as text."""
    traits = choose_traits(page.rng, 3, 7)
    introduce(page, traits)
    cue = page.rng.choice(CUES)
    return page.fill(f"{card(page.rng, traits)}\n{cue}\n{prose(page.rng, traits)}")


def card_then_card(page: Page) -> str:
    """A card and the same facts on a card of another layout."""
    traits = choose_traits(page.rng, 2, 5)
    introduce(page, traits)
    cue = page.rng.choice(("Copied.", "Written in another way.", "The copy.", "Again."))
    return page.fill(f"{card(page.rng, traits)}\n{cue}\n{card(page.rng, traits)}")


def card_then_questions(page: Page) -> str:
    """A card and questions about it."""
    traits = choose_traits(page.rng, 3, 7)
    introduce(page, traits)
    cue = page.rng.choice(("Questions.", "Now answer.", "The teacher asks."))
    return page.fill(card(page.rng, traits)) + f"\n{cue} " + _questions(page, traits, 6)


def prose_then_prose(page: Page) -> str:
    """Facts told twice, in different words and order."""
    traits = choose_traits(page.rng, 3, 6)
    introduce(page, traits)
    cue = page.rng.choice(("In other words:", "That is to say:", "Told by another:", "Again:"))
    return page.fill(f"{prose(page.rng, traits)}\n{cue} {prose(page.rng, traits)}")


def prose_then_card(page: Page) -> str:
    """Facts as text, then on a card."""
    traits = choose_traits(page.rng, 2, 5)
    introduce(page, traits)
    cue = page.rng.choice(("On a card.", "The clerk wrote.", "As a list.", "In short."))
    return page.fill(f"{prose(page.rng, traits)}\n{cue}\n{card(page.rng, traits)}")


def prose_then_questions(page: Page) -> str:
    """Facts about two or three characters, and questions about all of them."""
    told, asked = [], []
    for _ in range(page.rng.choice((1, 2, 2, 3))):
        traits = choose_traits(page.rng, 2, 4)
        introduce(page, traits)
        told.append(page.fill(prose(page.rng, traits)))
        asked.append(_questions(page, traits, 2))
        if page.rng.random() < 0.4:
            asked.append(_who(page, traits[0]))
    page.rng.shuffle(asked)
    return " ".join(told) + "\n" + " ".join(filter(None, asked))


def pattern(page: Page) -> str:
    """Several characters, each with a card and a text, all in the same layout and wording."""
    rng = page.rng
    traits = choose_traits(rng, 2, 4)
    between = rng.choice(("\n", "\n", " => ", "\nSo ", "\n= "))
    template = card(rng, traits) + between + prose(rng, traits)
    shown = []
    for _ in range(rng.choice((2, 3, 3, 4))):
        introduce(page, traits)
        shown.append(page.fill(template))
    return f"{rng.choice(('Examples.', 'A pattern.', 'Exercise.'))}\n" + "\n".join(shown)


def lonely_card(page: Page) -> str:
    """A card and nothing that makes use of it; the caller adds an unrelated text."""
    traits = choose_traits(page.rng, 2, 7)
    introduce(page, traits)
    return page.fill(card(page.rng, traits, lonely=True))


FACT_PAGES = (
    card_then_prose,
    card_then_prose,
    card_then_prose,
    card_then_questions,
    card_then_card,
    prose_then_prose,
    prose_then_prose,
    prose_then_questions,
    prose_then_questions,
    prose_then_card,
    pattern,
    pattern,
)
