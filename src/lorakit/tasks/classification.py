"""Classification of one text or of a pair: labels as words or numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from lorakit.core.errors import DataError, did_you_mean, shortlist
from lorakit.metrics.classification import Confusion
from lorakit.tasks import shapes
from lorakit.tasks.base import Features
from lorakit.tasks.options import DataOptions
from lorakit.tasks.rows import Row
from lorakit.tasks.templates import value_of


@dataclass
class ClassificationTask:
    """Rows of text and label for a model with a head of classes."""

    options: DataOptions
    cut: int = 0
    known: list[str] = field(default_factory=list)
    best: tuple[str, bool] = ("accuracy", True)

    name: ClassVar[str] = "classification"
    kind: ClassVar[str] = "classes"

    def read(self, rows: Sequence[Row], *, training: bool) -> list[tuple[str, str | None, int]]:
        label = shapes.field(self.options.label, shapes.LABELS, rows[0], "the label")
        words = [label_of(row, label) for row in rows]
        if training:
            self.known = sorted(set(words), key=_order)
            if len(self.known) < 2:
                raise DataError(
                    f"{rows[0].file}: every row has the label {words[0]!r}; expected two labels or "
                    "more. Choose another field with data.label, or more rows."
                )
        number = {word: place for place, word in enumerate(self.known)}
        for row, word in zip(rows, words):
            if word not in number:
                raise row.error(
                    f"the label {word!r} is in no training row; known are "
                    f"{shortlist(self.known, 8)}.{did_you_mean(word, self.known)}"
                )
        texts = read_texts(self.options, rows)
        return [(*pair, number[word]) for pair, word in zip(texts, words)]

    def labels(self) -> list[str] | None:
        return self.known

    def encode(self, examples: Sequence[Any], tokenizer: Any, longest: int) -> list[Features]:
        found = []
        for text, pair, label in examples:
            features, cut = encode_texts(text, pair, tokenizer, longest)
            self.cut += cut
            found.append({**features, "labels": label})
        return found

    def statistics(self, logits: Tensor, labels: Tensor) -> Tensor:
        return logits.float().argmax(-1, keepdim=True)

    def metrics(self, statistics: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        table = self.confusion(statistics, labels)
        found = {
            "accuracy": table.accuracy,
            "f1_macro": table.mean_f1("macro"),
            "matthews": table.matthews,
        }
        # Of two classes the last is the positive one: "1" of MRPC and QQP.
        return found | ({"f1": float(table.f1[-1])} if len(table.classes) == 2 else {})

    def confusion(self, statistics: np.ndarray, labels: np.ndarray) -> Confusion:
        """How many rows of each label were given which."""
        given, there = statistics[:, 0].astype(np.int64), np.asarray(labels, dtype=np.int64)
        count = max(len(self.known), given.max() + 1, there.max() + 1)
        # A thousand resamples are counted for an interval: at once, not row by row.
        counts = np.bincount(there * count + given, minlength=count**2).reshape(count, count)
        names = self.known if len(self.known) == count else map(str, range(count))
        return Confusion(tuple(names), counts)


def read_texts(options: DataOptions, rows: Sequence[Row]) -> list[tuple[str, str | None]]:
    """The text of every row, and its second text where the task is about pairs."""
    first, second = shapes.text_and_pair(options.text, options.pair, rows[0])
    found = []
    for row in rows:
        text, pair = first(row), None if second is None else second(row)
        if not text.strip() and not (pair or "").strip():
            raise row.error("the text is empty.")
        found.append((text, pair))
    return found


def encode_texts(
    text: str, pair: str | None, tokenizer: Any, longest: int
) -> tuple[Features, bool]:
    """One or two texts as the tokenizer joins them, and whether they had to be cut."""
    whole = len(tokenizer(text, pair)["input_ids"])
    encoded = tokenizer(text, pair, truncation=True, max_length=longest)
    keep = ("input_ids", "attention_mask", "token_type_ids")
    return {key: list(encoded[key]) for key in keep if key in encoded}, whole > longest


def label_of(row: Row, name: str) -> str:
    """A label as a word; whole numbers count as words, anything else is an error."""
    value = value_of(row, name, "the label")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, (str, int)) or not str(value).strip():
        raise row.error(f"{name} is {value!r}; expected a label: a word or a whole number.")
    return str(value).strip()


def _order(word: str) -> tuple[int, int, str]:
    return (0, int(word), "") if word.removeprefix("-").isdecimal() else (1, 0, word)
