"""Rows through a model in batches of similar length: what prediction and evaluation share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from lorakit.core.activate import use
from lorakit.tasks.base import Features, collate

Names = Sequence[str] | None  # adapters that act; none of them is the base, None leaves the model's


def grouped(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Places in batches of similar length, the longest first: what does not fit shows at once."""
    order = sorted(range(len(lengths)), key=lambda place: -lengths[place])
    return [order[at : at + size] for at in range(0, len(order), size)]


@contextmanager
def asked(model: Any, adapters: Names) -> Iterator[None]:
    """The model as it answers: in eval mode, without gradients, with these adapters."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad(), nullcontext() if adapters is None else use(model, *adapters):
            yield
    finally:
        model.train(training)


def scores(
    model: Any, rows: Sequence[Features], *, padding: int, batch_size: int = 32,
    adapters: Names = None,
) -> Iterator[tuple[list[int], dict[str, Tensor], Tensor]]:  # fmt: skip
    """(places of the rows, their batch, its logits) for each batch, in no order of the rows."""
    for places in grouped([len(row["input_ids"]) for row in rows], batch_size):
        batch = collate([rows[place] for place in places], padding)
        batch = {key: value.to(model.device) for key, value in batch.items()}
        # Only an encoder-decoder needs labels to answer: its decoder reads them.
        unread = () if model.config.is_encoder_decoder else ("labels",)
        inputs = {key: value for key, value in batch.items() if key not in unread}
        with asked(model, adapters):
            logits = model(**inputs).logits
        yield places, batch, logits
