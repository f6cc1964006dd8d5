"""What a step of training holds in memory at each moment, counted on tensors without values.

On the meta device every operation runs for its shapes alone, and torch's own autograd decides what
is kept for the backward pass and when it is let go. Here each piece of memory is counted from the
operation that makes it until its last user is gone: the same bytes, to within what libraries take
for themselves inside an operation, that the step takes on a CPU.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from lorakit.core.errors import UnsupportedError

PARTS = (
    "weights", "adapter", "gradients", "optimiser", "activations", "loss", "temporary",
)  # fmt: skip
Work = Counter[tuple[int, int]]  # (FLOPs, bytes moved) of an operation -> how often it is done


class Allocations(TorchDispatchMode):
    """Counts, while it is entered, the memory of meta tensors by part, its peak, and the work.

    What is new belongs to `phase`, one of `PARTS`. `full` says whether every row of the batch is
    as long as the longest, which models ask of their mask; `counted` is the share of tokens that
    have a label. Any other question for a value raises `UnsupportedError`.
    """

    def __init__(self, *, full: bool = True, counted: float = 1.0):
        super().__init__()
        self.full = full
        self.counted = counted
        self.phase = "temporary"
        self.live: Counter[str] = Counter()
        self.peak: Counter[str] = Counter()
        self.most = 0
        self.work: Work = Counter()
        self._known: dict[int, tuple[weakref.ref[Any], str, int]] = {}
        self._packed: dict[int, int] = {}

    def own(self, value: Tensor, part: str, nbytes: int | None = None) -> None:
        """Count a tensor that is there already; `nbytes` if it is kept in another form than this.

        Such a one is unpacked to its own size whenever it is used.
        """
        storage = value.untyped_storage()
        if storage._cdata in self._known:
            return
        if nbytes is not None:
            self._packed[storage._cdata] = storage.nbytes()
        self._count(storage, part, storage.nbytes() if nbytes is None else nbytes)

    def move(self, value: Tensor, part: str, *, out_of: str | None = None) -> None:
        """Count a tensor's memory as another part's; with `out_of` only if it is that one's now."""
        key = value.untyped_storage()._cdata
        if key in self._known:
            held, before, nbytes = self._known[key]
            if out_of is None or before == out_of:
                self.live[before] -= nbytes
                self.live[part] += nbytes
                self._known[key] = held, part, nbytes

    def move_all(self, part: str, *, out_of: str) -> None:
        """Count all memory of one part as another's."""
        self.live[part] += self.live.pop(out_of, 0)
        for key, (held, before, nbytes) in self._known.items():
            if before == out_of:
                self._known[key] = held, part, nbytes

    def did(self, flops: int, moved: int) -> None:
        """Note the work of an operation."""
        self.work[flops, moved] += 1

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.aten._local_scalar_dense.default and args[0].is_meta:
            return self._answer(args[0])
        if func is torch.ops.aten.nonzero.default and args[0].is_meta:
            rows = round(args[0].numel() * self.counted)
            out = torch.empty(rows, args[0].dim(), dtype=torch.int64, device="meta")
        else:
            out = func(*args, **kwargs)
        given = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
        made = [value for value in tree_leaves(out) if isinstance(value, Tensor)]
        fresh = False
        for value in made:
            storage = value.untyped_storage()
            if value.is_meta and storage._cdata not in self._known:
                self._count(storage, self.phase, storage.nbytes())
                fresh = True
        if fresh or func._schema.is_mutable:
            self._note(func, args, kwargs, out, [*given, *made])
        return out

    def _note(self, func: Any, args: Any, kwargs: Any, out: Any, touched: Iterable[Tensor]) -> None:
        count = flop_registry.get(func._overloadpacket)
        flops = 0 if count is None else count(*args, **kwargs, out_val=out)
        keys = [value.untyped_storage()._cdata for value in touched]
        moved = sum(value.numel() * value.element_size() for value in touched)
        self.did(flops, moved)
        unpacked = sum(self._packed[key] for key in dict.fromkeys(keys) if key in self._packed)
        if func is torch.ops.aten._log_softmax.default and not args[0].is_contiguous():
            unpacked += args[0].numel() * args[0].element_size()  # the kernel's own copy
        if unpacked:
            self._reach(unpacked)

    def _count(self, storage: Any, part: str, nbytes: int) -> None:
        key = storage._cdata

        def gone(_: Any) -> None:
            _, part, nbytes = self._known.pop(key)
            self._packed.pop(key, None)
            self.live[part] -= nbytes

        self._known[key] = weakref.ref(storage, gone), part, nbytes
        self.live[part] += nbytes
        self._reach(0)

    def _reach(self, more: int) -> None:
        total = sum(self.live.values()) + more
        if total > self.most:
            self.most, self.peak = total, Counter(self.live)
            self.peak["temporary"] += more

    def _answer(self, value: Tensor) -> bool:
        if value.dtype != torch.bool:
            raise UnsupportedError(
                "This model reads numbers that only real data have, so its activations cannot be "
                "counted from shapes."
            )
        return self.full
