"""Pages in which things named early, often by invented words, return later in another order."""

from __future__ import annotations

import itertools
import random

import words
from grammar import Page, invented_name, invented_word


def _and(items: list[str]) -> str:
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]


def _different(page: Page, template: str, count: int) -> list[str]:
    """`count` different fillings of a template."""
    found: list[str] = []
    while len(found) < count:
        thing = page.fill(template)
        if thing not in found:
            found.append(thing)
    return found


def _objects(page: Page, count: int) -> list[str]:
    return _different(page, "a~ <object>", count)


def _bare(thing: str) -> str:
    return thing.removeprefix("a~ ")


def _mixed(rng: random.Random, items: list[str]) -> list[str]:
    return rng.sample(items, len(items))


def outing(page: Page) -> str:
    """Several characters each take something; later it is told who has what."""
    rng = page.rng
    count = rng.choice((2, 3, 3, 4))
    names, things = page.names(count), _objects(page, count)
    pairs = list(zip(names, things, strict=True))
    verb = rng.choice(("bought", "found", "took", "carried", "wanted", "chose", "made", "sold"))
    text = page.fill(f"<^when>, {_and(names)} went to the <spot#s>. ")
    text += " ".join(f"{name} {verb} {thing}." for name, thing in _mixed(rng, pairs))
    endings = (
        lambda n, t: f"{n} showed everybody the {_bare(t)}.",
        lambda n, t: f"The {_bare(t)} belongs to {n}.",
        lambda n, t: f"Who {verb} {t}? {n}.",
        lambda n, t: f"What did {n} have? {t}.",
        lambda n, t: f'"Where is my {_bare(t)}?" asked {n}.',
    )
    ending = rng.choice(endings)
    text += page.fill(" <^later>, they met <where>. ")
    return text + " ".join(ending(name, thing) for name, thing in _mixed(rng, pairs))


def inventory(page: Page) -> str:
    """A box with things that are taken out one after the other."""
    rng = page.rng
    things = _objects(page, rng.randint(3, 6))
    box = rng.choice(("box", "chest", "basket", "sack", "drawer", "cupboard", "cart"))
    page.cast("A")
    text = f"In the {box} of <A> there were {_and(things)}. "
    order = _mixed(rng, things)
    steps = [f"First <A> took out the {_bare(order[0])}."]
    steps += [f"Then came the {_bare(thing)}." for thing in order[1:-1]]
    last = order[-1]
    ends = (
        f"Only the {_bare(last)} was left in the {box}.",
        f"The last thing was the {_bare(last)}.",
        f"Now there was nothing in the {box} but {last}.",
    )
    return page.fill(text + " ".join(steps) + " " + rng.choice(ends))


def shopping(page: Page) -> str:
    """A list and the shop where it is read out."""
    rng = page.rng
    page.cast("AB")
    wares = rng.sample(words.STAPLES, rng.randint(3, 6))
    style = rng.choice(("{}", "- {}", "* {}", "some {}", "more {}"))
    note = "\n".join(style.format(ware) for ware in wares)
    order = wares if rng.random() < 0.5 else _mixed(rng, wares)
    lines = [f'"Have you any {order[0]}?" asked <A>. "Yes, we have {order[0]}," said <B>.']
    lines += [f'"And {ware}?" "{ware}, too."' for ware in order[1:-1]]
    lines.append(f'"But there is no {order[-1]} left," said <B>.')
    end = f"So <A> went home with {_and(order[:-1])}, but without {order[-1]}."
    return page.fill(f"The list of <A>\n{note}\n{' '.join(lines)} {end}")


def letter(page: Page) -> str:
    """A letter that asks for things, and what its reader does."""
    rng = page.rng
    page.cast("AB")
    things = _objects(page, rng.randint(2, 4))
    text = (
        f"Dear <A>,\nplease come to <town#t> on <day#d> and bring {_and(things)}. "
        f"The word at the gate is {invented_word(rng)}#.\nYours, <B>\n"
    )
    word = text.split("gate is ")[1].split("#")[0]
    text = text.replace(f"{word}#", word)
    order = _mixed(rng, things)
    story = [
        "<A> read the letter from <B>.",
        " ".join(f"<A> packed the {_bare(thing)}." for thing in order),
        "On <day#d> <A_he> came to <town#t>.",
        f'"The word?" asked the guard. "{word}," said <A>.',
        f'"Have you got the {_bare(rng.choice(things))}?" asked <B>.',
    ]
    page.bound["town#t"] = invented_name(rng)
    return page.fill(text + " ".join(story))


def glossary(page: Page) -> str:
    """Invented words with meanings, used afterwards."""
    rng = page.rng
    meanings = rng.sample(words.THINGS + words.ANIMALS + words.STAPLES, rng.randint(2, 5))
    pairs = [(invented_word(rng), meaning) for meaning in meanings]
    style = rng.choice(
        (
            '"{}" means {}.',
            "{} is the word for {}.",
            "For {1} they say {0}.",
            "{} is {}.",
            "{} = {}",
        )
    )
    people = invented_name(rng)
    text = f"The words of the people of {people}\n"
    text += " ".join(style.format(*pair) for pair in pairs) + "\n"
    lines = (
        lambda w, m: f"What does {w} mean? {m}.",
        lambda w, m: f"How do they say {m}? {w}.",
        lambda w, m: f'A child cried "{w}", for it wanted {m}.',
        lambda w, m: f"If you need {m} in {people}, ask for {w}.",
    )
    line = rng.choice(lines)
    return page.fill(text + " ".join(line(word, meaning) for word, meaning in _mixed(rng, pairs)))


def roll_call(page: Page) -> str:
    """Names called in order, then backwards, mixed, or without one."""
    rng = page.rng
    names = [invented_name(rng) for _ in range(rng.randint(3, 7))]
    missing = rng.choice(names)
    here = [name for name in names if name != missing]
    forms = (
        f"The teacher called {_and(names)}. {' '.join(f'{name}? Here!' for name in names)}",
        f"In the row stood {_and(names)}. Backwards it was {_and(names[::-1])}.",
        f"There were {_and(names)}. Then {missing} went away. Now there were {_and(here)}.",
        f"{_and(names)} played together. Again: {_and(names)} played together.",
        f"{_and(names)} were invited. {_and(_mixed(rng, here))} came. {missing} did not come.",
    )
    return rng.choice(forms)


def seats(page: Page) -> str:
    """Who came in which place, asked out of order."""
    rng = page.rng
    names = page.names(rng.randint(3, 5))
    places = list(zip(words.ORDINALS, names, strict=False))
    text = " ".join(f"{name} was {place}." for place, name in places)
    asked = " ".join(f"Who was {place}? {name}." for place, name in _mixed(rng, places))
    return f"{text} {asked}"


def chant(page: Page) -> str:
    """Nonsense words repeated as they are, as in a song or a spell."""
    rng = page.rng
    line = " ".join(invented_word(rng) for _ in range(rng.randint(3, 9)))
    page.cast("AB")
    forms = (
        f"{line}\n{line}\n{line}",
        f'"Say after me," said <A>. "{line}." "{line}," said <B>.',
        f'The spell was "{line}". <A> whispered "{line}", and the door opened.',
        f"<A> sang: {line}! And all the children sang: {line}!",
        f"{line}, {line}, sang the <animal> <where>.",
    )
    return page.fill(rng.choice(forms))


def tags(page: Page) -> str:
    """Names on things, and whose thing is whose."""
    rng = page.rng
    names = [invented_name(rng) for _ in range(rng.randint(2, 4))]
    pairs = list(zip(names, _objects(page, len(names)), strict=True))
    styles = (
        lambda n, t: f"On the {_bare(t)} was written {n.upper()}.",
        lambda n, t: f"The {_bare(t)} bore the name {n}.",
        lambda n, t: f'The label on the {_bare(t)} said "{n}".',
        lambda n, t: f"{n.lower()} had been scratched into the {_bare(t)}.",
    )
    style = rng.choice(styles)
    text = " ".join(style(name, thing) for name, thing in pairs)
    ending = rng.choice(
        (
            lambda n, t: f"So the {_bare(t)} went back to {n}.",
            lambda n, t: f"{n} was glad to have the {_bare(t)} again.",
            lambda n, t: f"Whose is the {_bare(t)}? It is {n}'s.",
        )
    )
    return text + " " + " ".join(ending(name, thing) for name, thing in _mixed(rng, pairs))


def route(page: Page) -> str:
    """A way through towns, and the way back."""
    rng = page.rng
    towns = [invented_name(rng) for _ in range(rng.randint(3, 6))]
    page.cast("A")
    there = f"<A> <walked> from {towns[0]} " + " ".join(f"to {t}," for t in towns[1:-1])
    back = towns[::-1]
    return page.fill(
        f"{there.rstrip(',')} and at last to {towns[-1]}. On the way back <A_he> came from "
        f"{back[0]} to {', to '.join(back[1:])}. <A_his> home was in {towns[0]}."
    )


def prices(page: Page) -> str:
    """Wares with prices in digits and what somebody paid."""
    rng = page.rng
    wares = rng.sample(words.STAPLES, rng.randint(2, 5))
    costs = [rng.randint(2, 99) for _ in wares]
    rows = [f"{ware} {cost}" for ware, cost in zip(wares, costs, strict=True)]
    page.cast("A")
    join = rng.choice(("\n", ", "))
    pairs = _mixed(rng, list(zip(wares, costs, strict=True)))
    text = " ".join(f"<A> bought {ware} and paid {cost} coins." for ware, cost in pairs)
    return page.fill(f"Today's prices\n{join.join(rows)}\n{text}")


def orders(page: Page) -> str:
    """Guests order dishes; later each dish comes to its guest."""
    rng = page.rng
    count = rng.choice((2, 3, 3, 4))
    names, dishes = page.names(count), _different(page, "<food>", count)
    pairs = list(zip(names, dishes, strict=True))
    asks = rng.choice(
        (
            '"{d}, please," said {n}.',
            "{n} ordered {d}.",
            "For {n} the cook wrote down {d}.",
            "{n} wanted {d}.",
        )
    )
    brings = rng.choice(
        (
            "The {d} was for {n}.",
            "{n} got {d}.",
            "Who had asked for {d}? It was {n}.",
            'The waiter brought {d}. "That is mine," cried {n}.',
            "{n} thought that the {d} was too hot.",
        )
    )
    text = " ".join(asks.format(n=n, d=d) for n, d in pairs) + page.fill(" <^later>, it came. ")
    return text + " ".join(brings.format(n=n, d=d) for n, d in _mixed(rng, pairs))


def procession(page: Page) -> str:
    """Creatures pass one after the other, then it is asked who came when."""
    rng = page.rng
    shapes = ("<mood> <colour> <kind>", "<size> <kind>", "<mood> <kind>", "<colour> <kind>")
    creatures = _different(page, rng.choice(shapes), rng.randint(3, 5))
    steps = list(itertools.pairwise(creatures))
    text = f"First came the {creatures[0]}"
    text += "".join(f", then the {creature}" for creature in creatures[1:]) + ". "
    lines = (
        lambda a, b: f"Who came after the {a}? The {b}.",
        lambda a, b: f"The {a} went before the {b}.",
        lambda a, b: f"Behind the {a} one saw the {b}.",
        lambda a, b: f"Who was in front of the {b}? The {a}.",
    )
    line = rng.choice(lines)
    return text + " ".join(line(*step) for step in _mixed(rng, steps))


def visits(page: Page) -> str:
    """A postman calls at several houses, and later finds each of them again."""
    rng = page.rng
    count = rng.choice((2, 3, 3, 4))
    pairs = list(zip(page.names(count), _different(page, "<spot>", count), strict=True))
    page.cast("P")
    first = rng.choice(("{n} opened in the {s}.", "In the {s} it was {n}.", "To {n}: the {s}."))
    second = rng.choice(
        (
            "At the {s}, {n} waited.",
            "Where was {n}? In the {s}.",
            "The parcel for {n} went to the {s}.",
            "From the {s} {n} waved.",
        )
    )
    text = "<P> carried letters. " + " ".join(first.format(n=n, s=s) for n, s in pairs)
    text += " The next day <P> came again. "
    return page.fill(text + " ".join(second.format(n=n, s=s) for n, s in _mixed(rng, pairs)))


def notices(page: Page) -> str:
    """Lines of all sorts on a wall, read again in full from their first words."""
    rng = page.rng
    shapes = ("<invented_word> <object>", "<object> <invented_word>", "<adj> <invented_word>",
              "<food> <invented_word>", "<invented_word> <invented_word>")  # fmt: skip
    lines = []
    for _ in range(rng.randint(3, 6)):
        shape = rng.choice(shapes)
        while "<invented_word>" in shape:
            shape = shape.replace("<invented_word>", invented_word(rng), 1)
        lines.append(page.fill(shape))
    join, again = rng.choice(("\n", " * ", ", ", " / ", ". ")), rng.choice(("\n", ", ", " and "))
    cue = rng.choice(("Once more.", "Now mixed up.", "And now again.", "The echo."))
    return f"{join.join(lines)}\n{cue}\n{again.join(_mixed(rng, lines))}"


def echo(page: Page) -> str:
    """A dialogue in which one repeats what the other says."""
    page.cast("AB")
    forms = (
        '"I saw a~ <object#o> <where#p>," said <A>. "A~ <object#o>?" asked <B>. "Yes, a~ '
        '<object#o>, <where#p>," said <A>. So <B> went to look. And there, <where#p>, lay a~ '
        "<object#o>.",
        '"What do you want, <A>?" asked <B>. "<food#f>," said <A>. "<food#f>? There is no <food#f> '
        'left. Take <food#g>." "Well, then I take <food#g>," said <A>, and ate the <food#g>.',
        "<A> whispered to <B>: the <A_kind#k> is <where#p>. <B> said to the next: the <A_kind#k> "
        "is <where#p>. In the end everybody knew that the <A_kind#k> was <where#p>.",
        '"My name is <A>," said the <A_kind>. "And I am <B>," said the <B_kind>. "Good morning, '
        '<A>," said <B>. "Good morning, <B>," said <A>. And so the <A_kind> and the <B_kind> met.',
        '"Are you <mood#m>?" asked <A>. "I am not <mood#m>," said <B>. "I am <mood#n>." "I thought '
        'that every <B_kind> was <mood#m>," said <A>. "No, we are all <mood#n>," said <B>.',
    )
    page.bound["A_kind#k"] = page.bound["A_kind"]
    return page.say(forms)


COPY_PAGES = (
    outing, outing, orders, orders, visits, procession, inventory, shopping, letter, glossary,
    roll_call, seats, chant, tags, route, prices, echo, notices, notices,
)  # fmt: skip
