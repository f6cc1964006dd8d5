"""Ranks under a budget: a knapsack whose items, one rank more of a target, gain less each time."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Filled(NamedTuple):
    """Ranks by target, what they cost and gain together, and what no choice could gain more of."""

    ranks: dict[str, int]
    cost: int
    gain: float
    bound: float


def fill(
    gains: Mapping[str, Sequence[float]], costs: Mapping[str, int], budget: int, *,
    least: Mapping[str, int] | None = None,
) -> Filled:  # fmt: skip
    """Take one rank after the other, the one with the most gain for its cost that still fits.

    `gains` are those of each further rank of a target, falling; a rank that gains nothing is not
    taken. `costs` are those of one rank, and `least` is taken whatever it gains. Where a rank may
    be parted this is the best choice (Dantzig 1957), and what that one would gain is the `bound`.
    """
    order = {target: place for place, target in enumerate(gains)}
    ranks = {target: (least or {}).get(target, 0) for target in gains}
    left = budget - sum(costs[target] * rank for target, rank in ranks.items())
    gain = sum(sum(gains[target][:rank]) for target, rank in ranks.items())
    bound: float | None = None
    waiting: list[tuple[float, int, str]] = []

    def offer(target: str) -> None:
        """Let the next rank of a target wait for its turn; of equals the first target's."""
        if ranks[target] < len(gains[target]) and gains[target][ranks[target]] > 0:
            density = gains[target][ranks[target]] / costs[target]
            heapq.heappush(waiting, (-density, order[target], target))

    for target in gains:
        offer(target)
    while waiting:
        density, _, target = heapq.heappop(waiting)
        if costs[target] > left:  # nor will it fit later
            bound = gain - density * left if bound is None else bound
            continue
        gain += gains[target][ranks[target]]
        ranks[target] += 1
        left -= costs[target]
        offer(target)
    return Filled(ranks, budget - left, gain, gain if bound is None else bound)
