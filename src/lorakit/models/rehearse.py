"""One step of training on a base without weights: what it would hold in memory, and its work.

The step is the trainer's own: the same hooks, the same loss in chunks, the same checkpoints. Only
the optimiser's update is left out, which takes nothing of its own (the fused AdamW).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lorakit.analysis.allocations import PARTS, Allocations, Work
from lorakit.analysis.attention import KernelAttention
from lorakit.core.inject import shapes_only
from lorakit.core.site import base_parameters
from lorakit.methods.inject import inject
from lorakit.methods.method import Method
from lorakit.models.checkpointing import checkpoint_blocks
from lorakit.models.headless import Headless, is_large, plain_head
from lorakit.models.load import DTYPES
from lorakit.models.quantise import packed_bytes
from lorakit.models.roles import head_paths, is_linear

FLOAT = torch.float32.itemsize


@dataclass(frozen=True)
class Batch:
    """A batch as shapes: `targets` are the tokens that a decoder, where there is one, writes.

    `full` says that all rows are as long as the longest, `counted` which share of the tokens has a
    label, `passes` how many batches are added up before the optimiser's step.
    """

    rows: int = 8
    length: int = 512
    targets: int | None = None
    full: bool = True
    counted: float = 1.0
    passes: int = 1


@dataclass(frozen=True)
class Rehearsal:
    """The bytes of each part at the moment when all of them are most, and the step's work."""

    parts: Mapping[str, int]
    work: Work

    @property
    def peak(self) -> int:
        """The most bytes that are held at once."""
        return sum(self.parts.values())

    @property
    def flops(self) -> int:
        """Floating-point operations of the matrix products."""
        return sum(flops * times for (flops, _), times in self.work.items())


class Stage:
    """A base without weights, made ready for rehearsals: adapted by a plan, or trained in full.

    `kind` is the base's, as in `load_base`. The model is changed and should be used for nothing
    else. `precision` and `quantise` say what its weights would be kept in. Without a `method` all
    of it is trained, by AdamW with float32 masters and gradients where weights are narrower.
    """

    def __init__(
        self, model: Any, plan: Mapping[str, int], method: Method | None, *, kind: str,
        precision: str = "fp32", quantise: str = "none", checkpointing: bool = False,
    ):  # fmt: skip
        self.model = model
        self.kind = kind
        heads = head_paths(model)
        self.packed = {} if quantise == "none" else _packed(model, heads, quantise)
        for parameter in model.parameters():
            parameter.data = parameter.data.to(DTYPES[precision])
        self.base = [*base_parameters(model).values(), *model.buffers()]
        self.held = 0  # bytes of the adapter, as files keep it
        if method is not None:
            with shapes_only():
                self.held = inject(model, plan, method=method).bytes
        model.config.use_cache = False
        self.seen = Allocations()
        if checkpointing:  # torch leaves modes such as that of attention while it goes backward
            checkpoint_blocks(model, lambda: KernelAttention(self.seen))
        self.full = method is None
        self.head = _head(model, heads)

    @property
    def trained(self) -> list[nn.Parameter]:
        """What is trained, in the memory that is its own."""
        return [p for p in self.model.parameters() if p.requires_grad]

    def rehearse(self, batch: Batch) -> Rehearsal:
        """A step of training."""
        self.model.train()
        self.seen = seen = Allocations(full=batch.full, counted=batch.counted)
        inputs = _inputs(self.kind, self.model.config, batch)
        with ExitStack() as stack:
            self._own(seen, stack, inputs)
            ask = self._asked(inputs)
            stack.enter_context(_phases(seen, self.head))
            stack.enter_context(torch.autograd.graph.saved_tensors_hooks(_keep(seen), _given_back))
            stack.enter_context(KernelAttention(seen))
            stack.enter_context(seen)
            for _ in range(min(batch.passes, 2)):  # from the second on, gradients are there
                loss = ask(**inputs)["loss"]
                seen.move_all("activations", out_of="temporary")
                loss.backward()
                del loss
                seen.phase = "temporary"
        self._forget()
        return Rehearsal({part: seen.peak[part] for part in PARTS}, seen.work)

    def evaluate(self, batch: Batch, statistics: Callable[[Tensor, Tensor], object]) -> Rehearsal:
        """A step of evaluation, with what is made of its logits for the metrics."""
        self.model.eval()
        seen = Allocations(full=batch.full, counted=batch.counted)
        inputs = _inputs(self.kind, self.model.config, batch)
        with ExitStack() as stack:
            self._own(seen, stack, inputs)
            stack.enter_context(_phases(seen, self.head))
            stack.enter_context(KernelAttention(seen))
            stack.enter_context(torch.no_grad())
            stack.enter_context(seen)
            logits = self.model(**inputs)["logits"]
            statistics(logits, inputs["labels"])
        return Rehearsal({part: seen.peak[part] for part in PARTS}, seen.work)

    def _asked(self, inputs: dict[str, Tensor]) -> Callable[..., Any]:
        """What the trainer calls: the model, or what makes its loss without the whole logits."""
        head = plain_head(self.model)
        large = head is not None and is_large(head, inputs["labels"])
        return Headless(self.model, head) if head is not None and large else self.model

    def _own(self, seen: Allocations, stack: ExitStack, inputs: Mapping[str, Tensor]) -> None:
        """Count what is there before the step: all but activations."""
        for value in self.base:
            seen.own(value, "weights", self.packed.get(id(value)))
        for value in (*self.model.parameters(), *self.model.buffers()):
            seen.own(value, "adapter")
        for value in inputs.values():
            seen.own(value, "temporary")
        trained = self.trained
        count = sum(p.numel() for p in trained)
        self.states = [torch.empty(2 * count, device="meta")]  # float32, as AdamW's moments
        seen.own(self.states[0], "optimiser")
        narrow = self.full and trained[0].element_size() < FLOAT
        if narrow:
            for part in ("weights", "gradients"):
                self.states.append(torch.empty(count, device="meta"))
                seen.own(self.states[-1], part)

        def arrived(parameter: Tensor) -> None:
            if narrow:
                parameter.grad = None  # it was added to the one in float32
            elif parameter.grad is not None:
                seen.move(parameter.grad, "gradients")

        for parameter in trained:
            stack.callback(parameter.register_post_accumulate_grad_hook(arrived).remove)

    def _forget(self) -> None:
        for parameter in self.model.parameters():
            parameter.grad = None


def _packed(model: Any, heads: set[str], how: str) -> dict[int, int]:
    """Bytes of each quantised weight; their layers get outputs that are not free to write to."""
    found = {}
    for path, layer in model.named_modules():
        inside = any(f"{path}.".startswith(f"{head}.") for head in heads)
        if not inside and is_linear(layer):
            rows, columns = layer.weight.shape
            found[id(layer.weight)] = packed_bytes(how, rows, columns)
            layer.register_forward_hook(_seen_by_others)
    return found


def _seen_by_others(layer: nn.Module, args: Any, output: Any) -> None:
    """A hook: what another one has seen, updates do not write to."""


def _head(model: Any, heads: set[str]) -> nn.Module | None:
    """The outermost module that makes logits."""
    paths = sorted(heads, key=len)
    return model.get_submodule(paths[0]) if paths else None


def _inputs(kind: str, config: Any, batch: Batch) -> dict[str, Tensor]:
    def tokens(length: int) -> Tensor:
        return torch.zeros(batch.rows, length, dtype=torch.int64, device="meta")

    found = {"input_ids": tokens(batch.length), "attention_mask": tokens(batch.length)}
    if kind == "classes":
        scores = config.problem_type == "regression"
        kept = torch.float32 if scores else torch.int64
        return {**found, "labels": torch.zeros(batch.rows, dtype=kept, device="meta")}
    length = batch.length if kind == "causal" or batch.targets is None else batch.targets
    return {**found, "labels": tokens(length)}


@contextmanager
def _phases(seen: Allocations, head: nn.Module | None) -> Iterator[None]:
    """Count as the loss's what is made from the head on, until the gradient of its input."""
    if head is None:
        yield
        return

    def begin(layer: nn.Module, args: tuple[Any, ...]) -> None:
        del layer
        if args and args[0].requires_grad:
            args[0].register_hook(end)
        seen.phase = "loss"

    def end(gradient: Tensor) -> None:
        seen.move(gradient, "temporary")
        seen.phase = "temporary"

    # Before all other hooks, which may let the head see less.
    handle = head.register_forward_pre_hook(begin, prepend=True)
    try:
        yield
    finally:
        handle.remove()


def _keep(seen: Allocations) -> Callable[[Tensor], Tensor]:
    def pack(value: Tensor) -> Tensor:
        seen.move(value, "activations", out_of="temporary")
        return value

    return pack


def _given_back(value: Tensor) -> Tensor:
    return value
