"""Summaries of documents, and plain text whose perplexity is measured."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lorakit.tasks.benchmarks.base import Benchmark, Hub, plain
from lorakit.tasks.rows import Row, Source, read_text

# What the known sets call a text and its summary: XSum, CNN/DailyMail, SAMSum, others.
PAIRS = (
    ("document", "summary"), ("article", "highlights"), ("dialogue", "summary"), ("text", "summary")
)  # fmt: skip


def _summary(row: Row) -> Row:
    pair = next((pair for pair in PAIRS if set(pair) <= row.fields.keys()), None)
    if pair is None:
        return row
    named = {"document": row.fields[pair[0]], "summary": row.fields[pair[1]]}
    return Row({**row.fields, **named}, row.file, row.number, row.unit)


def _summaries(file: Path) -> Iterator[Row]:
    return map(_summary, plain(file))


def _document(file: Path) -> Iterator[Row]:
    """A file as one document, whatever its name ends with."""
    yield Row({"text": read_text(file, Source())}, str(file), 1, "file")


BENCHMARKS = (
    Benchmark(
        "summaries", "short for long", ("completion", "seq2seq"),
        {
            "train": ("*train*.json*",), "dev": ("*val*.json*", "*dev*.json*"),
            "test": ("*test*.json*",),
        },
        {"prompt": "{document}\nSummary:\n", "completion": "{summary}"},
        ("rouge_l", "rouge_1", "rouge_2"), _summaries, hub=Hub(change=_summary),
    ),
    Benchmark(
        "perplexity", "plain text, as WikiText's", ("text",),
        {
            "train": ("*train*.raw", "*train*.tokens", "*train*.txt"),
            "dev": ("*valid*.raw", "*valid*.tokens", "*valid*.txt", "*dev*.txt"),
            "test": ("*test*.raw", "*test*.tokens", "*test*.txt"),
        },
        {"text": "text"}, ("perplexity",), _document,
    ),
)  # fmt: skip
