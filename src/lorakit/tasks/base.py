"""What a task is: how rows become batches, and scores become metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lorakit.tasks.options import DataOptions
from lorakit.tasks.rows import Row

Features = dict[str, Any]  # a row as token ids: lists of whole numbers, or a label
IGNORED = -100  # the label of positions without loss, as transformers has it


class Task(Protocol):
    """One kind of training. Made from the recipe's data options; one file each in `tasks/`."""

    name: ClassVar[str]
    kind: ClassVar[str]  # the model it needs: "causal", "seq2seq" or "classes"
    best: tuple[str, bool]  # the metric to choose by, and whether more is better
    cut: int  # rows that were longer than the longest

    def read(self, rows: Sequence[Row], *, training: bool) -> list[Any]:
        """Check every row, with the file and field named where one is wrong; no tokenizer yet."""
        ...

    def labels(self) -> list[str] | None:
        """The class labels in their order; [] for a score, None where there are none."""
        ...

    def encode(self, examples: Sequence[Any], tokenizer: Any, longest: int) -> list[Features]:
        """Checked rows as token ids."""
        ...

    def statistics(self, logits: Tensor, labels: Tensor) -> Tensor:
        """What the metrics need of one batch, a row for each of its rows."""
        ...

    def metrics(self, statistics: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """Metrics by name, over the statistics and labels of all rows."""
        ...


@dataclass
class TokenTask:
    """What the tasks that learn tokens share; each adds `name`, `kind`, `read` and `encode`."""

    options: DataOptions
    cut: int = 0
    best: tuple[str, bool] = ("loss", False)

    shifted: ClassVar[bool] = True  # a causal model's scores are for the token that comes next

    def labels(self) -> list[str] | None:
        return None

    def statistics(self, logits: Tensor, labels: Tensor) -> Tensor:
        return token_statistics(logits, labels, shifted=self.shifted)

    def metrics(self, statistics: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        return token_metrics(statistics)


def collate(features: Sequence[Features], padding: int) -> dict[str, Tensor]:
    """A batch, padded on the right to its longest row."""
    fills = {"input_ids": padding, "attention_mask": 0, "token_type_ids": 0, "labels": IGNORED}
    batch: dict[str, Tensor] = {}
    for key in features[0]:
        values = [feature[key] for feature in features]
        if isinstance(values[0], (int, float)):
            batch[key] = torch.tensor(values)
            continue
        width = max(len(value) for value in values)
        rows = [list(value) + [fills[key]] * (width - len(value)) for value in values]
        batch[key] = torch.tensor(rows)
    return batch


def token_statistics(logits: Tensor, labels: Tensor, *, shifted: bool) -> Tensor:
    """(rows, 3): summed negative log likelihood, tokens, and tokens that were the likeliest."""
    if shifted:
        logits, labels = logits[:, :-1], labels[:, 1:]
    counted = labels != IGNORED
    losses = F.cross_entropy(
        logits.float().transpose(1, 2), labels, ignore_index=IGNORED, reduction="none"
    )
    hits = (logits.argmax(-1) == labels) & counted
    return torch.stack([losses.sum(1), counted.sum(1).float(), hits.sum(1).float()], dim=1)


def token_metrics(statistics: np.ndarray) -> dict[str, float]:
    """Loss per token, perplexity, and the share of tokens that were the likeliest."""
    total, tokens, hits = statistics.sum(0, dtype=np.float64)
    loss = float(total / max(tokens, 1))
    return {
        "loss": loss,
        "perplexity": float(np.exp(min(loss, 700.0))),
        "token_accuracy": float(hits / max(tokens, 1)),
    }


def ending(tokenizer: Any) -> list[int]:
    """The token that ends a text, or nothing where the tokenizer has none."""
    return [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]


def prompt_ids(text: str, tokenizer: Any) -> list[int]:
    """A prompt as ids, begun as the tokenizer begins texts, but not ended."""
    ids = list(tokenizer(text)["input_ids"])
    # The first stays: some bases begin texts with the token that ends them.
    while len(ids) > 1 and ids[-1] == tokenizer.eos_token_id:
        ids.pop()
    return ids


def last_of(ids: list[int], count: int, tokenizer: Any) -> list[int]:
    """The last ids of a prompt, behind the special token that it began with."""
    if len(ids) <= count or count < 1:
        return ids[len(ids) - min(len(ids), count) :]
    begun = ids[:1] if count > 1 and ids[0] in tokenizer.all_special_ids else []
    return begun + ids[len(ids) - count + len(begun) :]


def plain_ids(text: str, tokenizer: Any) -> list[int]:
    """A text as ids without special tokens."""
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])
