"""SQuAD (Rajpurkar et al., 2016 and 2018): answers from a paragraph, written out as text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lorakit.core.errors import DataError
from lorakit.tasks.benchmarks.base import Benchmark, Hub
from lorakit.tasks.rows import Row, Source, read_text

BLANK = "unanswerable"  # what is learned where version 2.0 has no answer


def _questions(file: Path) -> Iterator[Row]:
    """A row for each question of the official JSON, with all its answers."""
    try:
        articles = json.loads(read_text(file, Source()))["data"]
        number = 0
        for article in articles:
            for paragraph in article["paragraphs"]:
                for question in paragraph["qas"]:
                    number += 1
                    fields = _fields(question, paragraph["context"], article.get("title", ""))
                    yield Row(fields, str(file), number, "question")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{file} is not in SQuAD's format, data > paragraphs > qas ({error!r}). Fetch the "
            "official file."
        ) from error


def _fields(question: dict[str, Any], context: str, title: str) -> dict[str, Any]:
    texts = [answer["text"] for answer in question["answers"]]
    told = {"id": question["id"], "title": title, "context": context.strip()}
    told |= {"question": question["question"].strip()}
    if not texts and not question.get("is_impossible"):
        return told  # answers are hidden, which is told apart from there being none
    return told | {"answers": texts or [BLANK], "answer": texts[0] if texts else BLANK}


def _of_hub(row: Row) -> Row:
    """The hub keeps the answers of a question as columns, none where it has no answer."""
    texts = list(row.fields["answers"]["text"])
    fields = {**row.fields, "answers": texts or [BLANK], "answer": texts[0] if texts else BLANK}
    return Row(fields, row.file, row.number, row.unit)


def _squad(version: str, about: str) -> Benchmark:
    return Benchmark(
        f"squad/v{version[0]}", about, ("completion", "seq2seq"),
        {"train": (f"train-v{version}.json",), "dev": (f"dev-v{version}.json",)},
        {"prompt": "{context}\n{question}\n", "completion": "{answer}"},
        ("squad_f1", "squad_em"), _questions, answers="answers",
        blank=BLANK if version == "2.0" else None, hub=Hub(change=_of_hub),
    )  # fmt: skip


BENCHMARKS = (
    _squad("1.1", "answers from a paragraph"),
    _squad("2.0", "answers from a paragraph, or none"),
)
