"""The generated pretraining text: stories, descriptions, and pages that use what they introduce.

Run as a script, it prints a few sample documents: `python scripts/demo_base/text.py [seed]`.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator, Sequence

import plots
from copying import COPY_PAGES
from grammar import Page, polish

SCENES = (
    "It was a~ <placeq> <scene#s>. Everywhere stood <flowers>, and <where> lay a~ <object#o>.",
    "The <scene#s> of the <job#j> was <placeq> and <placeq>.",
    "The children called it the <placeq#r> <scene#s>, because it was so <placeq#r>.",
    "<A> the <job#j> had a~ <placeq> <scene#s>, full of <flowers> and <flowers>.",
    "Behind the <place> there was a~ <placeq> <scene#s>. It belonged to <A>, the <job#j>.",
)
DETAILS = (
    "In the <scene#s> stood a~ <object#p>, and beside the <object#p> a~ <object#o>.",
    "A~ <animal#x> and a~ <animal#y> lived there. The <animal#x> was <mood>, but the <animal#y> "
    "was <mood>.",
    "The <job#j> was <mood#m>, and the rest of the family was even more <mood#m>.",
    "On the wall hung a~ <object#q>. Nobody knew who had hung the <object#q> there.",
    "In spring there were <flowers#f>, and in autumn the <flowers#f> were gone.",
    "A~ <size> <tree#t> grew <where>, and in the <tree#t> lived a~ <animal>.",
    "It smelled of <food#g>, for the <job#j> cooked <food#g> every <day>.",
    "<weather>. The <scene#s> lay in silence.",
    "If you listened, you could hear <sound#h>. The <job#j> heard <sound#h>, too.",
    "There was a~ <object#o>, but it was <quality>.",
    "The <job#j> loved <hobby#h>, and after <hobby#h> there was always <food>.",
    "A sign said: beware of the <animal#z>. But the <animal#z> was asleep.",
)


def story(page: Page, openings: Sequence[str] = ()) -> str:
    """A short story: an opening, the beats of one plot with interludes, a closing."""
    page.cast()
    plot = page.rng.choice(plots.PLOTS)
    friends = plot in plots.FRIEND_PLOTS and page.rng.random() < 0.35
    openings = openings or (plots.FRIEND_OPENINGS if friends else plots.OPENINGS)
    parts = [page.say(openings)]
    for beat in plot:
        parts.append(page.say(beat))
        if page.rng.random() < 0.2:
            parts.append(page.say(plots.INTERLUDES))
    if page.rng.random() < 0.8:
        parts.append(page.say(plots.CLOSINGS))
    return " ".join(parts)


def description(page: Page) -> str:
    """A description of a place with the things and creatures in it."""
    page.cast("A")
    lines = [page.rng.choice(SCENES), *page.rng.sample(DETAILS, page.rng.randint(2, 5))]
    return " ".join(page.fill(line) for line in lines)


def document(rng: random.Random) -> str:
    """One document of the mixture, now and then several in one, so that some are long."""
    count = rng.choice((2, 3, 4)) if rng.random() < 0.03 else 1
    return polish("\n\n".join(_page(rng) for _ in range(count)))


def _page(rng: random.Random) -> str:
    page = Page(rng)
    share = rng.random()
    if share < 0.36:
        return story(page)
    if share < 0.42:
        return description(page)
    return rng.choice(COPY_PAGES)(page)


def documents(seed: int) -> Iterator[str]:
    """Documents without end; the same for the same seed."""
    rng = random.Random(seed)
    while True:
        yield document(rng)


if __name__ == "__main__":
    source = documents(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    for _ in range(12):
        print(next(source), end="\n\n---\n\n")
