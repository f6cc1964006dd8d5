"""Text: plain language modelling over documents, packed into blocks of equal length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from lorakit.core.errors import DataError
from lorakit.tasks.base import Features, ending, prompt_ids, token_metrics, token_statistics
from lorakit.tasks.options import DataOptions
from lorakit.tasks.rows import Row
from lorakit.tasks.shapes import text_and_pair


@dataclass
class TextTask:
    """Documents for a causal language model: joined, with an end after each, and cut evenly."""

    options: DataOptions
    cut: int = 0

    name: ClassVar[str] = "text"
    kind: ClassVar[str] = "causal"
    best: ClassVar[tuple[str, bool]] = ("loss", False)

    def read(self, rows: Sequence[Row], *, training: bool) -> list[str]:
        text, _ = text_and_pair(self.options.text, None, rows[0])
        documents = [text(row) for row in rows]
        for row, document in zip(rows, documents):
            if not document.strip():
                raise row.error("the text is empty, so there is nothing to learn from it.")
        return documents

    def labels(self) -> list[str] | None:
        return None

    def encode(self, examples: Sequence[Any], tokenizer: Any, longest: int) -> list[Features]:
        stream: list[int] = []
        for document in examples:
            stream += prompt_ids(document, tokenizer) + ending(tokenizer)
        blocks = [stream[at : at + longest] for at in range(0, len(stream), longest)]
        # A block of one token has nothing to predict.
        blocks = [block for block in blocks if len(block) > 1]
        if not blocks:
            raise DataError("The text is shorter than two tokens. Give more of it.")
        return [{"input_ids": b, "attention_mask": [1] * len(b), "labels": b} for b in blocks]

    def statistics(self, logits: Tensor, labels: Tensor) -> Tensor:
        return token_statistics(logits, labels, shifted=True)

    def metrics(self, statistics: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        return token_metrics(statistics)
