"""Whether merged answers are the unmerged ones, and the base is the same afterwards: measured."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from lorakit.core.activate import use
from lorakit.core.merge import merge, unmerge
from lorakit.core.registry import root_of
from lorakit.core.site import base_parameters
from lorakit.eval.session import Session

TEXTS = (
    "Once there was a fox who lived by the sea.",
    "The meeting was moved to Thursday, and nobody told the cook.",
)


@dataclass(frozen=True)
class MergeProof:
    """`error` is the largest difference of a logit, merged against unmerged, of so many `logits`.

    `largest` is the largest logit, and `restored` whether every bit of the base was as before when
    the adapter was taken out again.
    """

    error: float
    largest: float
    logits: int
    restored: bool


def merge_proof(session: Session, voice: str, texts: Sequence[str] = TEXTS) -> MergeProof:
    """Ask the model unmerged and merged, and compare the base's bits before and after."""
    batch = session.tokenizer(list(texts), return_tensors="pt", padding=True)
    batch.pop("token_type_ids", None)
    batch = {key: value.to(session.model.device) for key, value in batch.items()}
    name = session.voices[voice]
    assert name is not None
    before = base_bits(session.model)
    with torch.no_grad():
        with use(session.model, name):
            expected = session.model(**batch).logits
        merge(session.model, name)
        try:
            merged = session.model(**batch).logits
        finally:
            unmerge(session.model)
    return MergeProof(
        float((merged - expected).abs().max()), float(expected.abs().max()), expected.numel(),
        base_bits(session.model) == before,
    )  # fmt: skip


def base_bits(model: Any) -> str:
    """The sha256 of every bit of the base's parameters."""
    whole = hashlib.sha256()
    for name, value in sorted(base_parameters(root_of(model)).items()):
        whole.update(name.encode())
        whole.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return whole.hexdigest()
