"""Sequence to sequence: an input for the encoder, an output for the decoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from lorakit.tasks.base import Features, token_metrics, token_statistics
from lorakit.tasks.completion import read_pairs
from lorakit.tasks.options import DataOptions
from lorakit.tasks.rows import Row


@dataclass
class Seq2SeqTask:
    """Rows of input and output for an encoder-decoder."""

    options: DataOptions
    cut: int = 0

    name: ClassVar[str] = "seq2seq"
    kind: ClassVar[str] = "seq2seq"
    best: ClassVar[tuple[str, bool]] = ("loss", False)

    def read(self, rows: Sequence[Row], *, training: bool) -> list[tuple[str, str]]:
        return read_pairs(self.options, rows)

    def labels(self) -> list[str] | None:
        return None

    def encode(self, examples: Sequence[Any], tokenizer: Any, longest: int) -> list[Features]:
        return [self._encode(a, b, tokenizer, longest) for a, b in examples]

    def _encode(self, source: str, target: str, tokenizer: Any, longest: int) -> Features:
        inputs = list(tokenizer(source)["input_ids"])
        outputs = list(tokenizer(text_target=target)["input_ids"])
        if len(inputs) > longest or len(outputs) > longest:
            self.cut += 1
        ids = inputs[:longest]
        return {
            "input_ids": ids,
            "attention_mask": [1] * len(ids),
            "labels": outputs[:longest],
        }

    def statistics(self, logits: Tensor, labels: Tensor) -> Tensor:
        return token_statistics(logits, labels, shifted=False)

    def metrics(self, statistics: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        return token_metrics(statistics)
