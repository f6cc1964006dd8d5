"""Curves are drawn where their values are, whatever these are."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorakit.web.chart import BOTTOM, LEFT, MOST, RIGHT, TALL, TOP, WIDE, chart

NUMBERS = st.floats()
LINES = st.dictionaries(
    st.text("abc<&\"'{}", min_size=1, max_size=5),
    st.lists(st.tuples(st.integers(0, 10**6), NUMBERS), max_size=90), max_size=9,
)  # fmt: skip


def drawn(lines):
    text = chart(lines, title="Loss", x="step", y="loss")
    return ElementTree.fromstring(text) if text else None


def paths(figure):
    return [own.get("d") for own in figure.findall("svg/g/path") if own.get("class") != "grid"]


@given(LINES)
def test_every_number_is_in_the_picture_once(lines):
    figure = drawn(lines)
    known = {name: [own for own in points if abs(own[1]) < MOST] for name, points in lines.items()}
    known = {name: points for name, points in known.items() if points}
    if not known:
        assert figure is None
        return
    found = paths(figure)
    assert len(found) == len(known)
    for path, points in zip(found, known.values()):
        places = [tuple(map(float, own)) for own in re.findall(r"[ML]([-\d.]+) ([-\d.]+)", path)]
        assert len(places) == len(points)
        assert all(LEFT <= x <= WIDE - RIGHT and TOP <= y <= TALL - BOTTOM for x, y in places)
    legend = [own.find("svg").tail for own in figure.findall("ul/li")]
    assert legend == (list(known) if len(known) > 1 else [])


def test_places_are_to_scale():
    (path,) = paths(drawn({"run": [(0, 4.0), (5, 2.0), (10, 0.0)]}))
    middle = (LEFT + WIDE - RIGHT) / 2, (TOP + TALL - BOTTOM) / 2
    assert path == (
        f"M{LEFT:.1f} {TOP:.1f}L{middle[0]:.1f} {middle[1]:.1f}"
        f"L{WIDE - RIGHT:.1f} {TALL - BOTTOM:.1f}"
    )


def test_what_is_no_number_leaves_a_gap():
    (path,) = paths(drawn({"run": [(0, 1.0), (1, 2.0), (2, math.nan), (3, 1.0)]}))
    assert re.sub(r"[^ML]", "", path) == "MLM"


@pytest.mark.parametrize(("values", "ticks"), [
    ((0.0, 1.0), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
    ((2.5, 2.5), ["0", "1", "2", "3", "4", "5"]),
    ((0.0, 23_000.0), ["0", "5,000", "10,000", "15,000", "20,000", "25,000"]),
    ((-0.003, 0.001), ["-0.003", "-0.002", "-0.001", "0.000", "0.001"]),
])  # fmt: skip
def test_ticks_are_round(values, ticks):
    figure = drawn({"run": list(enumerate(values))})
    up = figure.findall("svg/g[@class='axis']")[1]
    assert [own.text for own in up.findall("text")][:-1] == ticks


def test_words_say_where_a_line_begins_and_ends():
    figure = drawn({"one": [(1, 2.0), (9, 0.5)], "two": [(1, 3.0)]})
    assert figure.find("svg").get("aria-label") == (
        "Loss. one: 2 at step 1, 0.5 at step 9; two: 3 at step 1, 3 at step 1"
    )
