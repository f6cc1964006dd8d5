"""Sequence to sequence: an input for the encoder, an output for the decoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from lorakit.tasks.base import Features, TokenTask
from lorakit.tasks.completion import read_pairs
from lorakit.tasks.rows import Row


class Seq2SeqTask(TokenTask):
    """Rows of input and output for an encoder-decoder."""

    name: ClassVar[str] = "seq2seq"
    kind: ClassVar[str] = "seq2seq"
    shifted: ClassVar[bool] = False

    def read(self, rows: Sequence[Row], *, training: bool) -> list[tuple[str, str]]:
        return read_pairs(self.options, rows)

    def encode(self, examples: Sequence[Any], tokenizer: Any, longest: int) -> list[Features]:
        return [self._encode(a, b, tokenizer, longest) for a, b in examples]

    def _encode(self, source: str, target: str, tokenizer: Any, longest: int) -> Features:
        ids = list(tokenizer(source)["input_ids"])
        outputs = list(tokenizer(text_target=target)["input_ids"])
        if len(ids) > longest or len(outputs) > longest:
            self.cut += 1
        if len(ids) > longest:  # an input keeps its end token, as answers will be asked for
            ids = list(tokenizer(source, truncation=True, max_length=longest)["input_ids"])
        return {
            "input_ids": ids,
            "attention_mask": [1] * len(ids),
            "labels": outputs[:longest],
        }
