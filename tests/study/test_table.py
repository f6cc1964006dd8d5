"""Tables in their three forms: what is bold, what is escaped, how a value is shown."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from lorakit.study.statistics import Interval
from lorakit.study.table import Column, Table, shown

EVIL = "<script>alert('x')</script> a_b & 50 % | $x$ {y} ~ ^ \\z"


def span(mean: float, half: float) -> Interval:
    return Interval(mean, mean - half, mean + half, 3, "95%, Student's t")


def scores(**changes) -> Table:
    return Table(**{
        "name": "scores", "title": "Scores & more",
        "columns": [
            Column("method"), Column("score", "%", best="high"),
            Column("time", "s", digits=1, best="low"), Column("paper", quoted=True),
        ],
        "rows": [
            ["LoRA", span(73.84, 0.31), 2.04, 73.7], ["full", span(73.5, 1.2), 2.01, None],
            [EVIL, None, 9, 70.4],
        ],
        "notes": ["Three seeds & t."], **changes,
    })  # fmt: skip


def test_values_are_shown_as_precisely_as_they_are_known():
    assert shown(span(73.84, 0.31), None) == "73.84 ± 0.31"
    assert shown(span(1234.5, 56.7), None) == "1,234 ± 57"
    assert shown(span(0.12345, 0.00067), None) == "0.12345 ± 0.00067"
    assert shown(span(5, 1), 3) == "5.000 ± 1.000"
    assert shown(Interval(1.0, 0.9, 1.3, 9, "order statistics"), None) == "1.00 [0.90, 1.30]"
    assert shown(Interval(2.5, None, None, 1, "a single run"), None) == "2.5"
    assert shown(span(2.0, 0.0), None) == "2.0 ± 0.0"
    assert shown(1234567, None) == "1,234,567"
    assert shown(0.000123456, None) == "0.0001235"
    assert shown(None, 2) == ""
    assert shown(True, None) == "True"


def test_the_best_is_bold_and_so_is_what_looks_the_same():
    text = scores().markdown()
    assert "**73.84 ± 0.31**" in text
    assert "**73.5" not in text
    assert text.count("**2.0**") == 2  # 2.04 and 2.01 look the same
    assert "*73.7*" in text
    assert r"\textbf{73.84 $\pm$ 0.31}" in scores().latex()
    assert "<b>73.84 ± 0.31</b>" in scores().html()


def test_the_best_is_sought_within_sections():
    rows = [["a", 1.0], ["a", 2.0], ["b", 5.0], ["b", 4.0], ["c", 9.0]]
    table = Table("t", "t", [Column("case"), Column("time", best="low")], rows, sections=0)
    assert table.markdown().count("**1**") == table.markdown().count("**4**") == 1
    assert table.markdown().count("**") == 4  # a lone one beats nobody
    assert table.latex().count(r"\midrule") == 3
    assert table.html().count('class="section"') == 2


def test_markdown_cells_stay_cells():
    lines = [line for line in scores().markdown().splitlines() if line.startswith("|")]
    assert len(lines) == 5
    for line in lines:
        assert line.replace("\\|", "").count("|") == 5
    assert "<script>" not in scores().markdown()
    assert lines[1] == "| --- | ---: | ---: | ---: |"


def test_latex_is_escaped_and_balanced():
    text = scores().latex()
    assert r"a\_b \& 50 \% \textbar{} \$x\$ \{y\} \textasciitilde{} \textasciicircum{}" in text
    assert r"\textbackslash{}z" in text
    assert r"\caption{Scores \& more}" in text
    assert text.count(r"\begin{") == text.count(r"\end{") == 2
    assert text.index(r"\toprule") < text.index(r"\midrule") < text.index(r"\bottomrule")
    plain = text.replace(r"\{", "").replace(r"\}", "")
    assert plain.count("{") == plain.count("}")


def test_html_is_escaped_and_whole():
    opened: list[str] = []
    seen: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attrs):
            opened.append(tag)

        def handle_endtag(self, tag):
            assert opened.pop() == tag

        def handle_data(self, data):
            seen.append(data)

    reader = Reader()
    reader.feed(scores().html())
    assert opened == []
    assert "script" not in " ".join(opened)
    assert EVIL in "".join(seen)


def test_rows_must_fit_and_json_has_everything():
    with pytest.raises(ValueError, match="columns"):
        scores(rows=[["LoRA", 1.0]])
    told = scores().as_dict()
    assert told["rows"][0]["score (%)"]["mean"] == 73.84
    assert "73.84 ± 0.31" in scores().text()
