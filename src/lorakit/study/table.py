"""A table of results, and its three forms: Markdown, LaTeX and HTML."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from lorakit.study.statistics import Interval

# What a text of ours has that LaTeX writes in another way; the first must come first.
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': "''", "±": r"$\pm$",
    "\u00d7": r"$\times$", "\u0394": r"$\Delta$", "\u03c6": r"$\varphi$", "\u2016": r"$\Vert$",
    "\u2026": r"\ldots{}", "\u22a4": r"$^\top$", "\u00a0": "~", "\u00b2": "$^2$",
    "\u2265": r"$\geq$", "\u2264": r"$\leq$",
}  # fmt: skip
_MARKDOWN = str.maketrans({
    **{sign: f"\\{sign}" for sign in "\\`*_|[]$~"}, "<": "&lt;", ">": "&gt;", "\n": " ", "\r": " ",
})  # fmt: skip


@dataclass(frozen=True)
class Column:
    """A column: its heading, its unit, and how its values are shown.

    `digits` are decimals; without them a value has four significant digits, or as many as its
    interval warrants. `best` sets the highest or the lowest in bold. `quoted` is for what others
    published: it stands in italics beside ours.
    """

    name: str
    unit: str = ""
    digits: int | None = None
    best: Literal["high", "low"] | None = None
    quoted: bool = False

    @property
    def heading(self) -> str:
        """Name and unit."""
        return f"{self.name} ({self.unit})" if self.unit else self.name


@dataclass(frozen=True)
class Table:
    """Rows of text, numbers, intervals and empty places (None), under columns.

    `sections` is the number of a column: rows with equal values there belong together, and the best
    is sought among them alone. `notes` stand below, `name` is a label for files and references.
    """

    name: str
    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Any]]
    notes: Sequence[str] = field(default_factory=tuple)
    sections: int | None = None

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"{len(row)} values for {len(self.columns)} columns: {row!r}")

    def markdown(self) -> str:
        """The table for a Markdown page."""
        head = [column.heading.translate(_MARKDOWN) for column in self.columns]
        lines = [head, ["---:" if self._right(i) else "---" for i in range(len(head))]]
        lines += self._lines(lambda t: t.translate(_MARKDOWN), "**{}**".format, "*{}*".format)
        text = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
        notes = "\n".join(f"- {note.translate(_MARKDOWN)}" for note in self.notes)
        parts = [f"### {self.title.translate(_MARKDOWN)}", text, notes]
        return "\n\n".join(part for part in parts if part) + "\n"

    def latex(self) -> str:
        """The table for a paper, with the rules of booktabs."""
        kinds = "".join("r" if self._right(i) else "l" for i in range(len(self.columns)))
        head = " & ".join(_latex(column.heading) for column in self.columns)
        rows = self._lines(_latex, r"\textbf{{{}}}".format, r"\textit{{{}}}".format)
        body: list[str] = []
        for number, cells in enumerate(rows):
            if number and self._section(number) != self._section(number - 1):
                body.append(r"\midrule")
            body.append(" & ".join(cells) + r" \\")
        notes = [rf"\par\smallskip\footnotesize {_latex(note)}" for note in self.notes]
        return "\n".join([
            r"\begin{table}[t]", r"\centering", rf"\caption{{{_latex(self.title)}}}",
            rf"\label{{tab:{self.name}}}", rf"\begin{{tabular}}{{{kinds}}}", r"\toprule",
            head + r" \\", r"\midrule", *body, r"\bottomrule", r"\end{tabular}", *notes,
            r"\end{table}", "",
        ])  # fmt: skip

    def html(self) -> str:
        """The table for a web page, with everything in it escaped."""
        kinds = [' class="number"' if self._right(i) else "" for i in range(len(self.columns))]
        head = "".join(
            f'<th scope="col"{kind}>{html.escape(column.heading)}</th>'
            for kind, column in zip(kinds, self.columns)
        )
        body: list[str] = []
        rows = self._lines(html.escape, "<b>{}</b>".format, "<i>{}</i>".format)
        for number, cells in enumerate(rows):
            new = number and self._section(number) != self._section(number - 1)
            inner = "".join(f"<td{kind}>{cell}</td>" for kind, cell in zip(kinds, cells))
            body.append(f'<tr class="section">{inner}</tr>' if new else f"<tr>{inner}</tr>")
        notes = "".join(f"<p>{html.escape(note)}</p>" for note in self.notes)
        return (
            f'<figure class="table"><figcaption>{html.escape(self.title)}</figcaption>'
            f'<div class="wide"><table><thead><tr>{head}</tr></thead>'
            f'<tbody>{"".join(body)}</tbody></table></div><div class="notes">{notes}</div></figure>'
        )

    def as_dict(self) -> dict[str, Any]:
        """The table as JSON: a row is a mapping of headings to values."""
        names = [column.heading for column in self.columns]
        rows = [
            {n: asdict(v) if isinstance(v, Interval) else v for n, v in zip(names, row)}
            for row in self.rows
        ]
        return {"name": self.name, "title": self.title, "rows": rows, "notes": list(self.notes)}

    def text(self) -> str:
        """The table for a terminal, in columns."""
        lines = [[column.heading for column in self.columns]]
        lines += self._lines(str, "{}".format, "{}".format)
        widths = [max(map(len, column)) for column in zip(*lines)]
        shown = [
            "  ".join(
                cell.rjust(width) if self._right(place) else cell.ljust(width)
                for place, (cell, width) in enumerate(zip(cells, widths))
            ).rstrip()
            for cells in lines
        ]
        return "\n".join([self.title, *shown, *self.notes])

    def _lines(
        self, escape: Callable[[str], str], bold: Callable[[str], str],
        italic: Callable[[str], str],
    ) -> list[list[str]]:  # fmt: skip
        """Every row as escaped text."""
        marked = self._marked()
        found = []
        for number, row in enumerate(self.rows):
            cells = []
            for place, (column, value) in enumerate(zip(self.columns, row)):
                text = escape(shown(value, column.digits))
                if text and column.quoted:
                    text = italic(text)
                cells.append(bold(text) if (number, place) in marked else text)
            found.append(cells)
        return found

    def _marked(self) -> set[tuple[int, int]]:
        """The places of the best values; those that look the same as the best are best too."""
        found: set[tuple[int, int]] = set()
        for place, column in enumerate(self.columns):
            if column.best is None:
                continue
            sections: dict[Any, list[int]] = {}
            for number, row in enumerate(self.rows):
                if _number(row[place]) is not None:
                    sections.setdefault(self._section(number), []).append(number)
            for rows in sections.values():
                if len(rows) < 2:
                    continue
                values = {number: _number(self.rows[number][place]) or 0.0 for number in rows}
                pick = max if column.best == "high" else min
                best = pick(rows, key=lambda number, own=values: own[number])
                look = _middle(self.rows[best][place], column.digits)
                same = [n for n in rows if _middle(self.rows[n][place], column.digits) == look]
                found |= {(number, place) for number in same} if len(same) < len(rows) else set()
        return found

    def _section(self, row: int) -> Any:
        return None if self.sections is None else shown(self.rows[row][self.sections], None)

    def _right(self, place: int) -> bool:
        """Whether a column holds numbers, which stand on the right."""
        values = [row[place] for row in self.rows if row[place] is not None]
        return bool(values) and all(_number(value) is not None for value in values)


def shown(value: Any, digits: int | None) -> str:
    """A value as text: an interval as "mean ± half" where it is symmetric, else "mean [low, high]".

    Without `digits` an interval decides them: its half-width has two significant ones.
    """
    if value is None:
        return ""
    if isinstance(value, Interval):
        if value.low is None or value.high is None:
            return shown(value.mean, digits)
        width = (value.high - value.low) / 2
        decimals = _decimals(width, value.mean) if digits is None else digits
        middle = f"{value.mean:,.{decimals}f}"
        if value.half is not None:
            return f"{middle} ± {value.half:,.{decimals}f}"
        return f"{middle} [{value.low:,.{decimals}f}, {value.high:,.{decimals}f}]"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if digits is not None:
        return f"{value:,.{digits}f}"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _decimals(width: float, mean: float) -> int:
    """So many that the half-width has two significant digits, and at most six."""
    size = width or abs(mean)
    return 2 if not size else min(6, max(0, 1 - math.floor(math.log10(size))))


def _middle(value: Any, digits: int | None) -> str:
    """What a value looks like without its interval, for ties."""
    if isinstance(value, Interval):
        return shown(value, digits).split(" ")[0]
    return shown(value, digits)


def _number(value: Any) -> float | None:
    if isinstance(value, Interval):
        return value.mean
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value)


def _latex(text: str) -> str:
    return "".join(_LATEX.get(sign, sign) for sign in text)
