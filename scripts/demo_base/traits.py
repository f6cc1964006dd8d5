"""The facts that pages state about characters: their names, values and wordings."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Trait:
    """One kind of fact: names for it, its values, sentences that state it, and a question."""

    keys: tuple[str, ...]
    value: str
    says: tuple[str, ...]
    asks: tuple[str, ...]
    parts: tuple[str, ...] = ()  # phrases for sentences that join several facts
    weight: int = 1


TRAITS = {
    "home": Trait(
        ("house", "lives in", "place", "where", "address", "sleeps in", "home"),
        "a~ <spot>",
        (
            "<N> lives in <V>.",
            "<V> is where <N> lives.",
            "You can find <N> in <V>.",
            "<N> spends the winter in <V>.",
            "The house of <N> is <V>.",
            "<N> was born in <V> and still lives there.",
            "Nobody but <N> wants to live in <V>.",
            "<N> comes from <V>.",
        ),
        ("Where does <N> live?", "Where can one find <N>?", "What is the house of <N>?"),
        ("from <V>", "who lives in <V>", "of <V>", "who sleeps in <V>"),
        weight=3,
    ),
    "food": Trait(
        ("eats", "favourite dish", "breakfast", "meal", "loves to eat", "supper", "likes"),
        "<food>",
        (
            "<N> eats <V> every day.",
            "<N> loves <V>.",
            "There is nothing <N> likes better than <V>.",
            "For <V>, <N> would do anything.",
            "<V>: that is what <N> eats for supper.",
            "<N> never has enough of <V>.",
            "When there is <V>, <N> is the first at the table.",
            "<N> dreams of <V>.",
        ),
        ("What does <N> eat?", "What does <N> love most?", "What is the supper of <N>?"),
        ("with a bowl of <V>", "who eats <V>", "who is fond of <V>"),
        weight=3,
    ),
    "shade": Trait(
        ("paint", "looks", "shade", "fur", "painted", "colour"),
        "<colour>",
        (
            "<N> is <V>.",
            "<N> is <V> from head to toe.",
            "<V> is the shade of <N>.",
            "From far away one sees that <N> is <V>.",
            "Everything about <N> is <V>, even the shadow.",
        ),
        ("What does <N> look like?", "What shade has <N>?"),
        weight=3,
    ),
    "temper": Trait(
        ("temper", "manner", "character", "always", "nature", "mood"),
        "<mood>",
        (
            "<N> is very <V>.",
            "Everybody says that <N> is <V>.",
            "<N> has always been <V>.",
            "By nature, <N> is <V>.",
            "<V>, that is the word for <N>.",
        ),
        ("What is <N> like?", "How is <N>?"),
        weight=3,
    ),
    "being": Trait(
        ("is a", "sort", "what", "species", "creature", "kind"),
        "<kind>",
        (
            "<N> is a~ <V>.",
            "<N> the <V> is known to all.",
            "There is no other <V> like <N>.",
            "One look is enough to see that <N> is a~ <V>.",
            "It is not easy to be a~ <V>, says <N>.",
        ),
        ("What is <N>?", "What sort of creature is <N>?"),
        weight=4,
    ),
    "friend": Trait(
        ("friend", "partner", "goes with", "companion", "neighbour"),
        "<invented>",
        (
            "<N> goes nowhere without <V>.",
            "The best friend of <N> is <V>.",
            "<V> and <N> have been friends for years.",
            "<N> tells <V> everything.",
            "<V> is always glad to see <N>.",
        ),
        ("Who is the friend of <N>?", "Whom does <N> trust?"),
        ("together with <V>", "who is the friend of <V>"),
        weight=2,
    ),
    "fear": Trait(
        ("fear", "runs from", "scared of", "hates"),
        "<fear>",
        (
            "<N> is afraid of <V>.",
            "<N> runs away from <V>.",
            "Only <V> can frighten <N>.",
            "Because of <V>, <N> cannot sleep.",
            "<N> hides under the bed because of <V>.",
        ),
        ("What does <N> fear?", "Of what is <N> afraid?"),
        ("who fears <V>",),
    ),
    "hobby": Trait(
        ("hobby", "pastime", "on Sundays", "good at"),
        "<hobby>",
        (
            "<N> is good at <V>.",
            "On Sundays <N> enjoys <V>.",
            "<N> spends whole days <V>.",
            "<V> is the great joy of <N>.",
            "<N> is tired from <V>.",
        ),
        ("What is <N> good at?", "How does <N> spend the day?"),
        ("who loves <V>",),
    ),
    "owns": Trait(
        ("owns", "carries", "treasure", "in the pocket", "tool"),
        "a~ <object>",
        (
            "<N> owns <V>.",
            "<N> always carries <V>.",
            "<V> belongs to <N>.",
            "<N> would never sell <V>.",
            "In the hand of <N> one sees <V>.",
            "<N> was given <V> by an uncle.",
        ),
        ("What does <N> carry?", "What belongs to <N>?"),
        ("with <V>", "who owns <V>"),
    ),
    "town": Trait(
        ("town", "country", "travels to", "ship"),
        "<invented>",
        (
            "<N> often travels to <V>.",
            "<V> is the town of <N>.",
            "<N> has a house in <V>.",
            "The road to <V> is well known to <N>.",
        ),
        ("Where does <N> travel?", "Which town does <N> know?"),
        ("of <V>", "from the town of <V>"),
    ),
    "word": Trait(
        ("password", "magic word", "motto", "song"),
        "<nonsense>",
        (
            'The secret word of <N> is "<V>".',
            '"<V>!" cries <N> every morning.',
            'To open the door, <N> says "<V>".',
            'Nobody but <N> knows what "<V>" means.',
        ),
        ("What is the word of <N>?", "What does <N> cry?"),
    ),
    "age": Trait(
        ("years", "age", "birthdays"),
        "<number>",
        (
            "<N> is <V> years old.",
            "<N> has seen <V> winters.",
            "On the cake of <N> were <V> candles.",
        ),
        ("How old is <N>?", "How many years has <N>?"),
    ),
    "day": Trait(
        ("day", "free on", "market day"),
        "<day>",
        ("<N> sleeps late on <V>.", "On <V>, <N> goes to market.", "<N> was born on a <V>."),
        ("When is <N> free?", "Which day does <N> like?"),
    ),
    "tree": Trait(
        ("tree", "sits under", "planted"),
        "a~ <size> <tree>",
        (
            "<N> sits under <V>.",
            "<N> once planted <V>.",
            "<V> stands before the door of <N>.",
        ),
        ("Which tree has <N>?", "What did <N> plant?"),
        ("under <V>",),
    ),
    "pet": Trait(
        ("pet", "beast", "guarded by"),
        "a~ <adj> <animal>",
        (
            "<N> keeps <V>.",
            "<V> follows <N> everywhere.",
            "<N> has <V> in the garden.",
            "<V> guards the door of <N>.",
        ),
        ("Which pet has <N>?", "Who follows <N>?"),
        ("with <V> on a rope", "who keeps <V>"),
    ),
}
