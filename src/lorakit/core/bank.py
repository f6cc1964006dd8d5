"""Banks: the updates of many adapters at one layer, as two batched products for all of them.

Rows of a batch that mixes adapters are put into groups of one size, each of one adapter, and the A
and B of the adapters are stacked: h = x A^T and h B^T for all groups at once, forward and backward.
The stacks are made anew in every call, which costs little beside the base's own product: nothing
that is kept can be out of date.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from lorakit.core.free import FEW, is_free, wide
from lorakit.core.routing import Route
from lorakit.core.update import Call, LowRank, first_input

_COPY = 5  # to copy an adapter's factors for one more group costs as much as so many tokens
_FEW_EACH = 4  # tokens of a group up to which float32 is faster than two bytes a number


class Groups(NamedTuple):
    """Rows in groups of `size` places, each of one adapter.

    `which` is the adapter of each group, and `take` the row in each place; both are None where
    they would change nothing. `rows` are the rows with an adapter, None for all of the batch in
    order; they stand at `places`.
    """

    size: int
    which: Tensor | None
    take: Tensor | None
    rows: Tensor | None
    places: Tensor | None


def group(rows: Sequence[Sequence[int]], count: int, tokens: int, device: torch.device) -> Groups:
    """Groups for the rows of each adapter, out of `count` rows of so many tokens each.

    Large groups copy no factors and leave places empty where adapters have unequal numbers of
    rows; small ones do the opposite. The size with the least work is chosen.
    """
    sizes = sorted({len(own) for own in rows} | {2**power for power in range(count.bit_length())})

    def work(size: int) -> int:
        groups = sum(math.ceil(len(own) / size) for own in rows)
        return groups * (size * tokens + (_COPY if groups > len(rows) else 0))

    size = min((size for size in sizes if size <= max(map(len, rows))), key=work)
    which: list[int] = []
    take: list[int] = []
    places: list[int] = []
    for adapter, own in enumerate(rows):
        begin = len(take)
        groups = math.ceil(len(own) / size)
        which += [adapter] * groups
        take += [*own, *([own[0]] * (groups * size - len(own)))]
        places += range(begin, begin + len(own))
    flat = [row for own in rows for row in own]
    everything = list(range(count))

    def tensor(values: list[int], unless: list[int]) -> Tensor | None:
        return None if values == unless else torch.tensor(values, device=device)

    whole = take == everything
    return Groups(
        size,
        tensor(which, list(range(len(rows)))),
        tensor(take, everything),
        None if whole else torch.tensor(flat, device=device),
        None if whole else tensor(places, list(range(len(take)))),
    )


class Bank:
    """One update of each of several adapters at a layer whose product is x A^T B^T."""

    def __init__(self, adapters: tuple[str, ...], updates: tuple[LowRank, ...]):
        self.adapters = adapters
        self.updates = updates
        # Attributes of modules are slow to find, which counts for many adapters and few tokens.
        whole = all(type(u).factors is LowRank.factors and not u.spreads for u in updates)
        held = [update._parameters for update in updates]
        self.held = held if whole and all({"A", "B"} <= own.keys() for own in held) else None
        self.equal = len({update.B.shape for update in updates}) == 1

    @property
    def dropping(self) -> bool:
        """Whether some update has dropout now, which each draws for itself."""
        return any(update.dropout and update.training for update in self.updates)

    def groups(self, x: Tensor, route: Route) -> Groups:
        """How the rows of an input are put together."""
        count = len(x)
        tokens = x.numel() // (count * x.shape[-1])

        def make() -> Groups:
            rows = route.by_adapter(count)
            return group([rows[adapter] for adapter in self.adapters], count, tokens, x.device)

        return route.known((self.adapters, count, tokens, x.device), make)

    def act(self, layer: torch.nn.Module, call: Call, output: Tensor, route: Route) -> Tensor:
        """The layer's output with the products of all updates, each on the rows of its adapter."""
        x = first_input(call)
        groups = self.groups(x, route)
        # Quantised layers give views of what is theirs.
        free = not self.updates[0].geometry.quantised and is_free(layer, x, output)
        delta = self.product(x, groups)
        if groups.rows is None:
            return output.add_(delta) if free else output + delta.to(output.dtype)
        own = delta if groups.places is None else delta.index_select(0, groups.places)
        own = own.to(output.dtype)
        if free:
            return output.index_add_(0, groups.rows, own)
        return output.index_add(0, groups.rows, own)

    def product(self, x: Tensor, groups: Groups) -> Tensor:
        """Scale * x A^T B^T in each place (places, ..., out)."""
        rows = x if groups.take is None else x.index_select(0, groups.take)
        inside = rows.reshape(len(rows) // groups.size, -1, rows.shape[-1])
        few = max(_FEW_EACH, FEW // len(inside))
        widened = inside.shape[1] <= few or any(update.in_float32 for update in self.updates)
        dtype = wide(x.dtype) if widened else x.dtype
        A, Bt = self._stacked(dtype)
        if groups.which is not None:
            A, Bt = A.index_select(0, groups.which), Bt.index_select(0, groups.which)
        h = torch.bmm(inside.to(dtype), A.transpose(1, 2))
        h = self._scaled(h, groups.which)
        return torch.bmm(h, Bt).view(*rows.shape[:-1], Bt.shape[-1])

    def _stacked(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """A (adapters, rank, in) and B^T (adapters, rank, out), with zeros for lower ranks."""
        if self.held is not None:
            As: list[Any] = [own["A"] for own in self.held]
            Bs: list[Any] = [own["B"] for own in self.held]
        else:
            pairs = [update.factors() for update in self.updates]
            As = [A for A, _ in pairs]
            Bs = [update.spread(B) for update, (_, B) in zip(self.updates, pairs)]
        if not self.equal:
            turned = pad_sequence([B.T for B in Bs], batch_first=True)
            return pad_sequence(As, batch_first=True).to(dtype), turned.to(dtype)
        # B is turned as a stack: to turn each would cost a copy that is slower.
        return torch.stack(As).to(dtype), torch.stack(Bs).to(dtype).transpose(1, 2)

    def _scaled(self, h: Tensor, which: Tensor | None) -> Tensor:
        scales = [update.scale for update in self.updates]
        if len(set(scales)) == 1:
            return h * scales[0]
        each = torch.tensor(scales, device=h.device)
        each = each if which is None else each.index_select(0, which)
        return (h * each[:, None, None]).to(h.dtype)


def stacks(update: object) -> bool:
    """Whether an update can be part of a bank: its product is x A^T B^T, and nothing more."""
    return (
        isinstance(update, LowRank)
        and update.geometry.stacks
        and not update.anchored
        and type(update).act is LowRank.act
        and type(update).product is LowRank.product
    )
