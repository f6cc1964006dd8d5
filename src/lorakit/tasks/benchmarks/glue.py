"""GLUE (Wang et al., 2019): nine tasks about English sentences, in its tab-separated files."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

from lorakit.core.errors import DataError, shortlist
from lorakit.tasks.benchmarks.base import Benchmark, Files, Hub
from lorakit.tasks.rows import Row, Source, read_text

COLA = ("source", "label", "star", "sentence")
SPLIT = {"train": ("train.tsv",), "dev": ("dev.tsv",), "test": ("test.tsv",)}
PLAIN = Hub()
ENTAILED = ("entailment", "not_entailment")
log = logging.getLogger("lorakit")


def read_tsv(file: Path, columns: tuple[str, ...] = (), *, broken: bool = False) -> Iterator[Row]:
    """Rows of a table in which a tab separates, a line ends, and a quote is a plain character.

    Columns are named by the first line, or by `columns`. `broken` leaves out lines that lack
    columns: QQP has a few questions with a line's end inside, which no reader can mend.
    """
    lines = [line.removesuffix("\r") for line in read_text(file, Source()).split("\n")]
    names = columns or tuple(lines[0].split("\t"))
    short = 0
    for number, line in enumerate(lines if columns else lines[1:], 1 if columns else 2):
        cells = line.split("\t")
        if not line:
            continue
        if len(cells) < len(names) and broken:
            short += 1
            continue
        if len(cells) != len(names):
            raise DataError(
                f"{file}, line {number}: {len(cells)} columns; expected {len(names)} "
                f"({shortlist(names)}). Fetch the file again, unchanged."
            )
        yield Row(dict(zip(names, cells)), str(file), number, "line")
    if short:
        log.warning("%s: %d lines lack columns and were left out", file, short)


def _cola(file: Path) -> Iterator[Row]:
    """CoLA has no header, but its test set has: an index and a sentence."""
    first = read_text(file, Source()).split("\n", 1)[0]
    hidden = first.split("\t") == ["index", "sentence"]
    return read_tsv(file, () if hidden else COLA)


_qqp = functools.partial(read_tsv, broken=True)


def _glue(
    name: str, folder: str, about: str, sets: dict[str, str], *, metrics: tuple[str, ...],
    read_one: Callable[[Path], Iterator[Row]] = read_tsv, files: Files = SPLIT, hub: Hub = PLAIN,
) -> Benchmark:  # fmt: skip
    task = "regression" if "pearson" in metrics else "classification"
    return Benchmark(
        f"glue/{name}", about, (task,), files, sets, metrics, read_one, folder=folder, hub=hub
    )


def _mnli(suffix: str, kind: str) -> Benchmark:
    sets = {"text": "sentence1", "pair": "sentence2", "label": "gold_label"}
    return _glue(
        f"mnli{suffix}", "MNLI", f"entailment, {kind} genres", sets, metrics=("accuracy",),
        files={"train": ("train.tsv",), "dev": (f"dev_{kind}.tsv",), "test": (f"test_{kind}.tsv",)},
        hub=Hub(
            {"sentence1": "premise", "sentence2": "hypothesis", "gold_label": "label"},
            ("entailment", "neutral", "contradiction"),
            {"train": "train", "dev": f"validation_{kind}", "test": f"test_{kind}"},
        ),
    )  # fmt: skip


_PAIR = {"text": "sentence1", "pair": "sentence2"}
BENCHMARKS = (
    _glue(
        "cola", "CoLA", "acceptability", {"text": "sentence", "label": "label"},
        metrics=("matthews",), read_one=_cola,
    ),
    _mnli("", "matched"),
    _mnli("-mm", "mismatched"),
    _glue(
        "mrpc", "MRPC", "paraphrase",
        {"text": "#1 String", "pair": "#2 String", "label": "Quality"},
        metrics=("accuracy", "f1"),
        hub=Hub({"#1 String": "sentence1", "#2 String": "sentence2", "Quality": "label"}),
        files={
            "train": ("train.tsv", "msr_paraphrase_train.txt"), "dev": ("dev.tsv",),
            "test": ("test.tsv", "msr_paraphrase_test.txt"),
        },
    ),
    _glue(
        "qnli", "QNLI", "does a sentence answer a question",
        {"text": "question", "pair": "sentence", "label": "label"},
        metrics=("accuracy",), hub=Hub(labels=ENTAILED),
    ),
    _glue(
        "qqp", "QQP", "same question",
        {"text": "question1", "pair": "question2", "label": "is_duplicate"},
        metrics=("accuracy", "f1"), read_one=_qqp, hub=Hub({"is_duplicate": "label"}),
    ),
    _glue(
        "rte", "RTE", "entailment", {**_PAIR, "label": "label"},
        metrics=("accuracy",), hub=Hub(labels=ENTAILED),
    ),
    _glue(
        "sst2", "SST-2", "sentiment", {"text": "sentence", "label": "label"}, metrics=("accuracy",)
    ),
    _glue(
        "stsb", "STS-B", "similarity, 0 to 5", {**_PAIR, "label": "score"},
        metrics=("pearson", "spearman"), hub=Hub({"score": "label"}),
    ),
    _glue("wnli", "WNLI", "coreference", {**_PAIR, "label": "label"}, metrics=("accuracy",)),
)  # fmt: skip
