"""An evaluation for people and machines: a table, `eval.json`, `report.md`, and pictures."""

from __future__ import annotations

import json
from pathlib import Path

from lorakit.core.folder import write_whole
from lorakit.eval.outcome import Evaluation, Voice
from lorakit.eval.picture import draw_confusion
from lorakit.metrics.classification import Report

EXAMPLES = 5


def columns(found: Evaluation) -> list[list[str]]:
    """The figures in rows, the voices in columns, under a line with their names."""
    names = list(dict.fromkeys(name for voice in found.voices for name in voice.figures))
    lines = [["metric", *(voice.label for voice in found.voices), "n"]]
    for name in names:
        figures = [voice.figures[name] for voice in found.voices]
        lines.append([name, *map(str, figures), str(figures[0].rows)])
    return lines


def table(found: Evaluation) -> str:
    """The figures as text, each with its 95 % interval."""
    lines = columns(found)
    widths = [max(map(len, column)) for column in zip(*lines)]
    rows = ["  ".join(c.ljust(w) for c, w in zip(line, widths)).rstrip() for line in lines]
    return "\n".join(rows)


def details(voice: Voice) -> str:
    """A classifier's table of confusion, and its figures class by class."""
    if voice.confusion is None:
        return ""
    return f"{voice.confusion}\n\n{Report(voice.confusion)}"


def markdown(found: Evaluation) -> str:
    """The report as a page."""
    about = found.identity
    place = f"{about['benchmark']}, " if about["benchmark"] else ""
    head, *body = [f"| {' | '.join(cells)} |" for cells in columns(found)]
    parts = [
        f"# Evaluation: {place}{about['data']} ({about['split']})",
        f"Base {found.model}, task {about['task']}, {about['rows']} rows. In "
        "brackets: 95 % intervals, percentile bootstrap over rows.",
        "\n".join([head, "|" + "---|" * (len(found.voices) + 2), *body]),
    ]
    if found.signatures:
        told = [f"- {name}: `{value}`" for name, value in found.signatures.items()]
        parts.append("\n".join(["## Metrics", "", *told]))
    parts += [f"Note: {note}" for note in found.subject.notes]
    for voice in found.voices:
        if voice.confusion is not None:
            parts += [f"## {voice.label}", f"```text\n{details(voice)}\n```"]
    if any(voice.confusion for voice in found.voices):
        parts.append("![Tables of confusion](confusion.png)")
    if found.asked:
        parts += ["## The first answers", *_examples(found)]
    return "\n\n".join(parts) + "\n"


def write_report(found: Evaluation, folder: Path) -> None:
    """Write all of it into a folder."""
    tables = {v.label: v.confusion for v in found.voices if v.confusion is not None}
    if tables:
        for ending in (".png", ".svg"):
            draw_confusion(tables, folder / f"confusion{ending}")
    write_whole(folder / "report.md", markdown(found).encode())
    told = json.dumps(found.told(), indent=2, ensure_ascii=False) + "\n"
    write_whole(folder / "eval.json", told.encode())


def _examples(found: Evaluation) -> list[str]:
    parts = []
    for place, question in enumerate(found.asked[:EXAMPLES]):
        lines = ["> " + question.prompt.strip().replace("\n", "\n> ")]
        lines += ["", f"- reference: {_line(' / '.join(question.references[:3]) or 'no answer')}"]
        lines += [f"- {voice.label}: {_line(voice.answers[place])}" for voice in found.voices]
        parts.append("\n".join(lines))
    return parts


def _line(text: str) -> str:
    return " ".join(text.split()) or "(nothing)"
