"""Prediction: the label or the score that each voice gives a text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from lorakit.eval.batches import scores
from lorakit.eval.session import Session
from lorakit.models.places import places_of
from lorakit.tasks.classification import encode_texts


def predict(
    session: Session, texts: Sequence[tuple[str, str | None]], *, batch_size: int = 32
) -> list[dict[str, Any]]:
    """What each voice says of every text, or of a text and a second one.

    [{"text": ..., "answers": {voice: {"label": ..., "probability": ...} or {"score": ...}}}]
    """
    found: list[dict[str, Any]] = [
        {"text": text, **({} if pair is None else {"pair": pair}), "answers": {}}
        for text, pair in texts
    ]
    places = places_of(session.model.config) or 10**9
    longest = min(session.tokenizer.model_max_length, places)
    rows = [encode_texts(text, pair, session.tokenizer, longest)[0] for text, pair in texts]
    for voice, adapter in session.voices.items():
        for batch, _, logits in scores(
            session.model, rows, padding=session.tokenizer.pad_token_id, batch_size=batch_size,
            adapters=[] if adapter is None else [adapter],
        ):  # fmt: skip
            for place, row in zip(batch, logits.float()):
                found[place]["answers"][voice] = _answer(row, session.labels)
    return found


def _answer(logits: torch.Tensor, labels: list[str] | None) -> dict[str, Any]:
    if len(logits) == 1:
        return {"score": float(logits[0])}
    shares = logits.softmax(-1)
    best = int(shares.argmax())
    return {"label": labels[best] if labels else str(best), "probability": float(shares[best])}
