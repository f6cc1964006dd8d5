"""A causal language model's loss without its logits, which are never there as a whole.

The model is called as ever, with all its hooks. Only its head sees a single token: a hook before it
notes what the head was given, and from that the loss is made, some tokens at a time. Whether a
model's logits and loss are what this takes them for is tried on a few tokens, not looked up.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lorakit.core.errors import TrainingError
from lorakit.core.site import site_of
from lorakit.models import token_loss
from lorakit.models.token_loss import IGNORED

_TOKENS = 8  # of one row are enough to tell what a model makes of them
# How many times as large the head's input is made then: once as it is, so that a small addition to
# the loss shows, and once so that a bound on logits does.
TRIALS = (1.0, 64.0)


class Headless:
    """Stands in for a causal language model: called with the same batch, it gives the same loss.

    `model` is what is called, wrapped or not; `head` its output layer, as `plain_head` finds it;
    `smoothing` as in `token_loss`.
    """

    def __init__(self, model: Callable[..., Any], head: nn.Linear, *, smoothing: float = 0.0):
        self.model = model
        self.head = head
        self.smoothing = smoothing

    def __call__(
        self, *, labels: Tensor, num_items_in_batch: Tensor | int | None = None, **inputs: Any
    ) -> dict[str, Tensor]:
        """The loss of labels (rows, tokens): the mean, or the sum over the number that is given."""
        # For rows that are not one block, torch copies the weight once for each of them.
        with given_to(self.head, lambda x: x[:, :1].contiguous()) as seen:
            self.model(**inputs)
        if len(seen) != 1 or seen[0] is None or seen[0].shape[:2] != labels.shape:
            raise TrainingError(
                f"The model called its head {len(seen)} times, or with other tokens than those of "
                "the batch, which it did not do at first. Set lorakit.models.token_loss.LOGITS "
                "above tokens x vocabulary: the logits are made as a whole then."
            )
        x, following = seen[0], _following(labels).flatten()
        total = token_loss.token_loss(
            x.flatten(0, 1), self.head, following.to(x.device), smoothing=self.smoothing
        )
        return {"loss": _mean(total, following, num_items_in_batch)}


class WithLogits:
    """The same of logits (rows, tokens, out) that are there, for any batch."""

    def __init__(self, logits: Tensor, *, smoothing: float = 0.0):
        self.logits = logits
        self.smoothing = smoothing

    def __call__(
        self, *, labels: Tensor, num_items_in_batch: Tensor | int | None = None, **inputs: Any
    ) -> dict[str, Tensor]:
        """The loss of labels (rows, tokens)."""
        del inputs
        following = _following(labels).flatten()
        total = F.cross_entropy(
            self.logits.float().flatten(0, 1), following, label_smoothing=self.smoothing,
            reduction="sum", ignore_index=IGNORED,
        )  # fmt: skip
        return {"loss": _mean(total, following, num_items_in_batch)}


def plain_head(model: Any) -> nn.Linear | None:
    """The model's output layer, where it is a frozen linear one that nobody changes or watches."""
    find = getattr(model, "get_output_embeddings", None)
    # A forward with `logits_to_keep` can do with fewer logits than tokens.
    if find is None or "logits_to_keep" not in inspect.signature(model.forward).parameters:
        return None
    head = find()
    if type(head) is not nn.Linear or site_of(head) is not None:
        return None
    if head._forward_hooks or head._forward_pre_hooks or hasattr(head, "_hf_hook"):
        return None
    if model.config.is_encoder_decoder or model._compiled_call_impl is not None:
        return None
    own = [head.weight] if head.bias is None else [head.weight, head.bias]
    # Sharded and quantised weights are of other types; partitioned ones have another shape.
    plain = all(type(p) is nn.Parameter and not p.requires_grad for p in own)
    whole = head.weight.shape == (head.out_features, head.in_features)
    return head if plain and whole and head.weight.is_floating_point() else None


def is_large(head: nn.Linear, labels: Tensor) -> bool:
    """Whether a batch's logits are more than are made at a time."""
    return labels.numel() * head.out_features > token_loss.LOGITS


def probe(inputs: Mapping[str, Any]) -> dict[str, Tensor] | None:
    """A few tokens of a batch; None where it holds other things than a number for each token."""
    tokens = inputs.get("input_ids")
    if not isinstance(tokens, Tensor) or "labels" not in inputs or "shift_labels" in inputs:
        return None
    if any(not isinstance(v, Tensor) or v.shape != tokens.shape for v in inputs.values()):
        return None
    cut = {name: value[:1, :_TOKENS] for name, value in inputs.items()}
    labels = cut["input_ids"].clone()
    labels[:, : labels.shape[1] // 2] = IGNORED
    return {**cut, "labels": labels}


def same_logits(
    head: nn.Linear, seen: list[Tensor | None], times: float, logits: Any
) -> Tensor | None:
    """The head's answer to what it was given once, if the model's logits are that to the bit.

    Whatever scales, caps or cuts them makes another number of most of them.
    """
    x = seen[0] if len(seen) == 1 else None
    if x is None or x.device != head.weight.device or x.dtype != head.weight.dtype:
        return None
    made = head(x * times)
    if not isinstance(logits, Tensor) or made.shape != logits.shape:
        return None
    return made if torch.equal(made.to(logits.dtype), logits) else None


@contextmanager
def given_to(head: nn.Linear, instead: Callable[[Tensor], Tensor]) -> Iterator[list[Tensor | None]]:
    """What the head is given in this thread, while it gets `instead` of that in its place.

    None stands for what a copy of the head was given, or was given by keyword.
    """
    seen: list[Tensor | None] = []
    thread = threading.get_ident()

    def note(layer: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if threading.get_ident() != thread:
            return None
        seen.append(args[0] if layer is head and args else None)
        return (instead(args[0]), *args[1:]) if args else None

    handle = head.register_forward_pre_hook(note)
    try:
        yield seen
    finally:
        handle.remove()


def _following(labels: Tensor) -> Tensor:
    """The label of the next token at each token; the last has none."""
    return F.pad(labels, (0, 1), value=IGNORED)[:, 1:]


def _mean(total: Tensor, labels: Tensor, count: Tensor | int | None) -> Tensor:
    number = (labels != IGNORED).sum() if count is None else count
    return total / (number.to(total.device) if isinstance(number, Tensor) else number)
