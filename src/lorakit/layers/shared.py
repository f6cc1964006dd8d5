"""Layers that take the same input, such as query, key and value: one product x A^T for all of them.

The first of them that is called makes the product for itself and those that come after it, side by
side; each of these takes its part if it is then given the very same tensor. With dropout they share
its draw. Who goes together is decided by names when the adapter is made, never by what was seen, so
that equal calls give equal bits. Cross-attention, where keys get another input, costs a few columns
that nobody takes.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lorakit.core.update import LowRank, Update
from lorakit.layers.dropout import Dropped
from lorakit.layers.project import Project

# Names of layers of one parent that are called with the same input, in this order.
TOGETHER = (
    ("q_proj", "k_proj", "v_proj"), ("query", "key", "value"), ("q_lin", "k_lin", "v_lin"),
    ("query_proj", "key_proj", "value_proj"), ("q", "k", "v"), ("wq", "wk", "wv"),
    ("to_q", "to_k", "to_v"), ("gate_proj", "up_proj"), ("wi_0", "wi_1"), ("w1", "w3"),
)  # fmt: skip


class Given(NamedTuple):
    """What a product was made of: valid for the same tensor, unchanged, and in the same mode."""

    x: weakref.ref[Tensor]
    version: int
    grad: bool

    @classmethod
    def of(cls, x: Tensor) -> Given:
        """The input as it is now."""
        return cls(weakref.ref(x), _version(x), torch.is_grad_enabled())

    def is_still(self, x: Tensor) -> bool:
        """Whether x is that very input."""
        return (
            self.x() is x and self.version == _version(x) and self.grad == torch.is_grad_enabled()
        )


class Siblings:
    """Updates of one adapter that go together, in the order of their calls."""

    def __init__(self, members: list[LowRank]):
        self.members = members
        self.local = threading.local()

    def __getstate__(self) -> dict[str, Any]:
        return {"members": self.members}  # what threads do now stays here

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["members"])

    def project(self, update: LowRank, x: Tensor, A: Tensor) -> Tensor:
        """X A^T (tokens, rank) of one update: its part of what was made, or made anew."""
        last = getattr(self.local, "last", None)
        if last is not None and last[0].is_still(x):
            known = last[1].pop(id(update), None)
            if known is not None and known[1] == _version(A):
                return known[0]
        places = [place for place, member in enumerate(self.members) if member is update]
        after = self.members[places[0] + 1 :] if places else []  # a replica has no siblings
        factors = [A, *(other.factors()[0] for other in after)]
        made = Project.apply(x, drawn(update), *factors)
        parts = made.split([len(factor) for factor in factors], 1) if after else (made,)
        waiting = {
            id(other): (part, _version(factor))
            for other, part, factor in zip(after, parts[1:], factors[1:])
        }
        self.local.last = (Given.of(x), waiting) if waiting else None
        return parts[0]


def project(update: LowRank, x: Tensor, A: Tensor) -> Tensor:
    """X A^T (tokens, rank) of an update, made with that of its siblings where it has any."""
    if isinstance(update.siblings, Siblings):
        return update.siblings.project(update, x, A)
    return Project.apply(x, drawn(update), A)


def acquaint(updates: Mapping[str, Mapping[str, Update]]) -> None:
    """Let the updates of an adapter, by path and kind, know of those that they go together with."""
    parents: dict[str, dict[str, LowRank]] = {}
    for path, kinds in updates.items():
        parent, _, leaf = path.rpartition(".")
        update = kinds.get("low_rank")
        if isinstance(update, LowRank):
            parents.setdefault(parent, {})[leaf] = update
    for leaves in parents.values():
        for names in TOGETHER:
            members = [leaves[name] for name in names if name in leaves]
            if len(members) > 1 and len({member.A.shape[-1] for member in members}) == 1:
                together = Siblings(members)
                for member in members:
                    member.siblings = together


def drawn(update: LowRank) -> Dropped | None:
    """A draw of the update's dropout, while it is trained."""
    return Dropped.draw(update.dropout) if update.dropout and update.training else None


def _version(value: Tensor) -> int:
    return 0 if value.is_inference() else value._version
