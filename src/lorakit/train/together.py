"""One training step of several adapters at once: one pass through the base they share.

The rows of all of them make one batch, each acted on by its own adapter, and each adapter has the
loss of its own rows; the sum's gradient by one adapter is that of its own loss. Where a base makes
rows depend on chance or on each other, that is not so: `why_not` finds out before anything begins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lorakit.core.activate import use
from lorakit.core.errors import RoutingError, UnsupportedError
from lorakit.core.state import trained_parameters
from lorakit.tasks.base import IGNORED

# Tokens of a run's batch up to which a shared pass is faster than one for each: measured on a CPU
# (at d 64 and 192: 1.1 to 1.4 times below, 0.8 to 0.9 times above); on a GPU a guess.
_SMALL = {"cpu": 256, "cuda": 4096}
_PASS = 16_384  # tokens of one shared pass, so that its memory is that of an ordinary batch
_NEAR = {torch.float32: 1e-4, torch.float64: 1e-4}  # relative; in two bytes a number 3e-2


@dataclass
class Part:
    """What one training brings to a step: its adapter's name, its batch, and how it is counted."""

    name: str
    inputs: Mapping[str, Tensor]
    tokens: Any = None  # what its loss is divided by, where the trainer says so
    share: float | Tensor = 1.0  # of the step's gradient, where several batches are accumulated


def step(model: Any, kind: str, padding: int, parts: Sequence[Part]) -> list[tuple[Tensor, list]]:
    """For each part its loss, detached, and the gradients of its adapter, in their order."""
    model.train()
    losses: list[Tensor] = []
    for some in _passes(parts):
        with _rows_of(model, some):
            here = joint_losses(model, kind, padding, some)
            torch.stack(here).sum().backward()
        losses += here
    found = []
    for part, loss in zip(parts, losses):
        own = [p for _, p in trained_parameters(model, part.name)]
        found.append((loss.detach(), [p.grad for p in own]))
        for parameter in own:
            parameter.grad = None
    return found


def _tokens(part: Part) -> int:
    return part.inputs["input_ids"].numel()


def _passes(parts: Sequence[Part]) -> list[list[Part]]:
    """The parts in their order, as many in a pass as its tokens allow."""
    passes: list[list[Part]] = [[]]
    for part in parts:
        if passes[-1] and sum(map(_tokens, [*passes[-1], part])) > _PASS:
            passes.append([])
        passes[-1].append(part)
    return passes


def joint_losses(model: Any, kind: str, padding: int, parts: Sequence[Part]) -> list[Tensor]:
    """The loss of each part, out of one forward pass over all of them."""
    batch = _joined([part.inputs for part in parts], padding)
    del batch["labels"]
    logits = model(**batch).logits
    losses = []
    sizes = [part.inputs["input_ids"].shape for part in parts]
    # One split, not a slice for each: the backward of a slice makes zeros of the whole.
    for part, (_, width), own in zip(parts, sizes, logits.split([count for count, _ in sizes])):
        own = own if kind == "classes" else own[:, :width].contiguous()
        losses.append(_loss(model, kind, own, part) * part.share)
    return losses


def _loss(model: Any, kind: str, logits: Tensor, part: Part) -> Tensor:
    """The loss as the model itself makes it of these logits."""
    labels = part.inputs["labels"]
    if kind == "classes":
        from transformers.loss.loss_utils import ForSequenceClassificationLoss

        return ForSequenceClassificationLoss(labels, logits, model.config)
    vocabulary = model.config.get_text_config().vocab_size
    given = {} if part.tokens is None else {"num_items_in_batch": part.tokens}
    return model.loss_function(logits=logits, labels=labels, vocab_size=vocabulary, **given)


def _joined(batches: Sequence[Mapping[str, Tensor]], padding: int) -> dict[str, Tensor]:
    """Batches one under the other, padded on the right to the longest."""
    fills = {"input_ids": padding, "labels": IGNORED}
    joined = {}
    for key in batches[0]:
        values = [batch[key] for batch in batches]
        if values[0].dim() > 1:
            width = max(value.shape[1] for value in values)
            values = [
                torch.nn.functional.pad(v, (0, width - v.shape[1]), value=fills.get(key, 0))
                for v in values
            ]
        joined[key] = torch.cat(values)
    return joined


def _rows_of(model: Any, parts: Sequence[Part]) -> AbstractContextManager[None]:
    rows = [part.name for part in parts for _ in range(len(part.inputs["input_ids"]))]
    return use(model, per_sample=rows)


@torch.no_grad()
def why_not(model: Any, kind: str, padding: int, parts: Sequence[Part]) -> str | None:
    """Why these adapters should not share a pass, or None.

    It looks at one batch of each: whether the base gives the same twice while training, and whether
    each one's loss is the same beside the others as alone.
    """
    if kind not in ("causal", "classes"):
        return "encoder-decoders share no passes"
    most, small = max(map(_tokens, parts)), _SMALL.get(model.device.type, 0)
    if most > small:
        return f"with {most} tokens in a batch (over {small}) a pass for each is faster"
    model.train()
    try:
        with _rows_of(model, parts):
            together = joint_losses(model, kind, padding, parts)
            again = joint_losses(model, kind, padding, parts)
    except (RoutingError, UnsupportedError) as error:
        return f"their rows cannot be mixed: {error}"
    if not all(torch.equal(one, two) for one, two in zip(together, again)):
        return "the base has dropout, whose draws would be others side by side"
    bound = _NEAR.get(model.dtype, 3e-2)
    for part, beside in zip(parts, together):
        with use(model, part.name):
            alone = model(**part.inputs).loss
        if not torch.allclose(alone.float(), beside.float(), rtol=bound, atol=bound / 10):
            return (
                f"the loss of {part.name!r} is {float(alone):.6g} alone and {float(beside):.6g} "
                "beside the others: the base's rows depend on each other"
            )
    return None
