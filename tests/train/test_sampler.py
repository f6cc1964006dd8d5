from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lorakit.train.sampler import SeededSampler


@given(st.lists(st.integers(1, 90), min_size=1, max_size=300), st.integers(1, 9), st.integers(0, 5))
def test_every_row_comes_once_whatever_the_lengths(lengths, batch, epoch):
    sampler = SeededSampler(len(lengths), seed=3, batch=batch, lengths=lengths)
    sampler.set_epoch(epoch)
    order = list(sampler)
    assert sorted(order) == list(range(len(lengths)))
    again = SeededSampler(len(lengths), seed=3, batch=batch, lengths=lengths)
    again.set_epoch(epoch)
    assert list(again) == order


def test_epochs_and_seeds_have_orders_of_their_own():
    def order(seed: int, epoch: int) -> list[int]:
        sampler = SeededSampler(50, seed=seed, batch=4)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert len({tuple(order(seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}) == 4


def test_batches_hold_rows_of_similar_length():
    lengths = [1 + (i * 37) % 100 for i in range(400)]

    def waste(grouped: bool) -> int:
        order = list(SeededSampler(400, seed=0, batch=8, lengths=lengths if grouped else None))
        batches = [order[i : i + 8] for i in range(0, 400, 8)]
        return sum(max(lengths[r] for r in b) - lengths[row] for b in batches for row in b)

    assert waste(True) < 0.1 * waste(False)
