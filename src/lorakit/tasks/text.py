"""Text: plain language modelling over documents, packed into blocks of equal length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from lorakit.core.errors import DataError
from lorakit.tasks.base import Features, TokenTask, ending, prompt_ids
from lorakit.tasks.rows import Row
from lorakit.tasks.shapes import text_and_pair


class TextTask(TokenTask):
    """Documents for a causal language model: joined, with an end after each, and cut evenly."""

    name: ClassVar[str] = "text"
    kind: ClassVar[str] = "causal"

    def read(self, rows: Sequence[Row], *, training: bool) -> list[str]:
        text, _ = text_and_pair(self.options.text, None, rows[0])
        documents = [text(row) for row in rows]
        for row, document in zip(rows, documents):
            if not document.strip():
                raise row.error("the text is empty, so there is nothing to learn from it.")
        return documents

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
