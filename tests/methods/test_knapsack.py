"""The knapsack of ranks, beside the best choice, which dynamic programming finds."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorakit.methods.knapsack import fill


def best(gains, costs, budget: int) -> float:
    """The most that can be gained, by the costs of each single rank (Bellman 1957)."""
    table = [0.0] * (budget + 1)
    for target, own in gains.items():
        for gain in own:
            cost = costs[target]
            table = [
                max(table[have], table[have - cost] + gain if have >= cost else 0.0)
                for have in range(budget + 1)
            ]
    return table[budget]


def instance(seed: int):
    rng = random.Random(seed)
    costs = {str(n): rng.choice([16, 24, 32, 43, 48, 59, 75]) for n in range(rng.randint(2, 10))}
    gains = {
        target: sorted(
            (rng.expovariate(1) * rng.choice([1, 1, 3]) for _ in range(rng.randint(1, 9))),
            reverse=True,
        )
        for target in costs
    }
    return gains, costs


@pytest.mark.parametrize(("steps", "worst", "mean"), [(3, 0.85, 0.99), (10, 0.97, 0.997)])
def test_it_comes_near_the_best_choice(steps, worst, mean):
    """`steps` is how many of the dearest ranks the budget has room for."""
    shares = []
    for seed in range(60):
        gains, costs = instance(seed)
        budget = steps * max(costs.values())
        found, most = fill(gains, costs, budget), best(gains, costs, budget)
        assert found.gain <= most * (1 + 1e-9) <= found.bound * (1 + 2e-9)
        shares.append(found.gain / most)
    assert min(shares) > worst
    assert sum(shares) / len(shares) > mean


falling = st.lists(st.floats(0, 100), max_size=6).map(lambda own: sorted(own, reverse=True))


@settings(deadline=None)
@given(st.lists(st.tuples(falling, st.integers(1, 40)), min_size=1, max_size=6), st.data())
def test_no_budget_is_exceeded_nor_left_where_a_step_fits(items, data):
    gains = {str(n): own for n, (own, _) in enumerate(items)}
    costs = {str(n): cost for n, (_, cost) in enumerate(items)}
    least = {t: data.draw(st.integers(0, len(own))) for t, own in gains.items()}
    forced = sum(costs[t] * rank for t, rank in least.items())
    budget = forced + data.draw(st.integers(0, 300))
    found = fill(gains, costs, budget, least=least)
    assert found.cost == sum(costs[t] * rank for t, rank in found.ranks.items()) <= budget
    assert found.gain == pytest.approx(sum(sum(gains[t][:r]) for t, r in found.ranks.items()))
    assert found == fill(gains, costs, budget, least=least)
    for target, rank in found.ranks.items():
        assert least[target] <= rank <= len(gains[target])
        more = rank < len(gains[target]) and gains[target][rank] > 0
        assert not more or costs[target] > budget - found.cost


def test_of_equals_the_first_is_taken():
    gains = {target: [2.0, 1.0] for target in "abc"}
    assert fill(gains, dict.fromkeys("abc", 5), 20).ranks == {"a": 2, "b": 1, "c": 1}
