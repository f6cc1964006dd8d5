"""Pictures: texts that do not cover each other, files that are the same each time, fronts."""

from __future__ import annotations

import math

import pytest
from matplotlib.text import Text
from PIL import Image

from lorakit.study.figures import Axis, Series, bars, lines, short
from lorakit.study.front import Point, front, pareto
from lorakit.study.maps import Sides, heatmap

NAMES = ["LoRA", "$costly$ & <b>", "_hidden", "a much longer name of a method"]


def texts(figure):
    """The boxes of all words that a figure shows."""
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()
    found = []
    for axes in figure.axes:
        words = [*axes.texts, axes.title, axes.xaxis.label, axes.yaxis.label]
        for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            low, high = sorted((low, high))  # ticks beyond the ends are not drawn
            ticks = [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
            labels = [label for tick in ticks for label in (tick.label1, tick.label2)]
            words += [label for label in labels if label.get_visible()]
        # A leader line is no part of its words.
        found += [
            (w.get_text(), Text.get_window_extent(w, renderer)) for w in words if w.get_text()
        ]
    for legend in figure.legends:
        found += [(w.get_text(), w.get_window_extent(renderer)) for w in legend.get_texts()]
    return found


def assert_apart(figure):
    boxes = texts(figure)
    for number, (name, box) in enumerate(boxes):
        assert box.x0 > -1, name
        assert box.x1 < figure.bbox.x1 + 1, name
        for other, second in boxes[:number]:
            wide = min(box.x1, second.x1) - max(box.x0, second.x0)
            high = min(box.y1, second.y1) - max(box.y0, second.y0)
            assert wide < 1 or high < 1, f"{name!r} covers {other!r}"


def drawn_lines():
    x = [1, 2, 4, 8, 64]
    series = [
        Series(name, [v + n for v in x], [v - 1 for v in x], [v + 9 for v in x])
        for n, name in enumerate(NAMES)
    ]
    return lines("l", "words", (Axis("rank", log=True), x), Axis("score (%)"), series)


def drawn_bars(stacked):
    series = [Series(name, [1.0, 2.0, 3.0], [0.5, None, 2.5], [1.5, None, 4]) for name in NAMES]
    groups = ["32 x 512", "full fine-tuning", "all-linear, r 64"]
    return bars("b", "words", groups, Axis("times"), series, reference=1, stacked=stacked)


def drawn_front():
    crowd = [
        Point(f"method {n}", 1e5 * (1 + n / 40), 70 + 0.1 * (n % 3), 69.9, 70.4) for n in range(6)
    ]
    far = [Point("full", 1e8, 71, kind="full"), Point("q at rank 1", 1e3, 60, 55, 65)]
    return pareto("p", "words", Axis("parameters", log=True), Axis("score"), [*crowd, *far])


def drawn_maps():
    grid = [[(i + j) / 12 for j in range(6)] for i in range(6)]
    panels = dict.fromkeys(NAMES, grid)
    return heatmap("h", "words", panels, Sides("i", "j"), unit="phi", span=(0, 1))


PICTURES = {
    "lines": drawn_lines, "bars": lambda: drawn_bars(False), "stacked": lambda: drawn_bars(True),
    "front": drawn_front, "maps": drawn_maps,
}  # fmt: skip


@pytest.mark.parametrize("kind", PICTURES)
def test_no_text_covers_another(kind):
    assert_apart(PICTURES[kind]().figure)


@pytest.mark.parametrize("kind", PICTURES)
def test_files_are_pictures_and_the_same_each_time(kind, tmp_path):
    first = PICTURES[kind]().save(tmp_path / "one")
    second = PICTURES[kind]().save(tmp_path / "two")
    for one, two in zip(first, second, strict=True):
        assert one.read_bytes() == two.read_bytes()
    image = Image.open(first[0])
    assert image.width >= 600
    assert len(image.convert("L").getcolors(256)) > 20  # and not blank
    drawing = first[1].read_text()
    assert "<script" not in drawing
    assert 'href="http' not in drawing


def test_every_series_is_named_as_it_is():
    shown = [text for text, _ in texts(drawn_lines().figure)]
    assert "_hidden" in shown
    assert r"\$costly\$ & <b>" in shown  # drawn with its dollars, and not as a formula


def test_the_front_is_what_nothing_beats():
    points = [
        Point("a", 1, 5), Point("b", 2, 4), Point("c", 2, 7), Point("d", 3, 7), Point("e", 9, 8),
    ]  # fmt: skip
    assert [own.name for own in front(points)] == ["a", "c", "e"]
    assert [own.name for own in front(points, more_is_better=False)] == ["a", "b"]
    for point in points:  # by definition
        beaten = any(
            o.cost <= point.cost and o.score >= point.score and o != point
            and (o.cost < point.cost or o.score > point.score)
            for o in points
        )  # fmt: skip
        assert beaten == (point not in front(points))


def test_maps_write_values_only_where_they_can_be_read():
    few = drawn_maps().figure
    assert len(few.axes[0].texts) == 36
    grid = [[0.0] * 64 for _ in range(8)]
    many = heatmap("h", "w", {"one": grid}, Sides("i", "j"), unit="phi", span=(0, 1)).figure
    assert not many.axes[0].texts
    assert [tick.get_text() for tick in many.axes[0].get_xticklabels()][-1] == "64"


def test_missing_values_leave_a_gap():
    series = [Series("a", [1.0, math.nan]), Series("b", [1.0, 2.0])]
    picture = lines("l", "w", (Axis("n"), [1, 2]), Axis("v", log=True), series)
    assert_apart(picture.figure)


def test_short_numbers():
    assert [short(v) for v in (0.001, 64, 5000, 2e4, 3e6, 1.7e8)] == [
        "0.001", "64", "5000", "20k", "3M", "170M",
    ]  # fmt: skip
