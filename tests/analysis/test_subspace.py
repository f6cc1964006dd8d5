"""Subspaces by their definitions: identical, orthogonal, turned and random ones."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lorakit.analysis.factored import Spectrum, overlap
from lorakit.analysis.subspace import (
    amplification,
    directions,
    effective_rank,
    expected_similarity,
    participation,
    random_directions,
    similarity,
)

SIZES = st.tuples(st.integers(2, 24), st.integers(1, 8), st.integers(1, 8), st.integers(0, 99))


def drawn(size: int, count: int, seed: int) -> torch.Tensor:
    return random_directions(size, min(size, count), torch.Generator().manual_seed(seed))


@given(SIZES)
@settings(max_examples=60, deadline=None)
def test_similarity_is_a_share_symmetric_and_the_overlap_at_its_end(given_sizes):
    size, r1, r2, seed = given_sizes
    one, two = drawn(size, r1, seed), drawn(size, r2, seed + 1000)
    found = similarity(one, two)
    assert found.shape == (one.shape[1], two.shape[1])
    assert float(found.min()) >= 0
    assert float(found.max()) <= 1
    torch.testing.assert_close(found, similarity(two, one).mT)
    assert float(found[-1, -1]) == pytest.approx(overlap(one, two), abs=1e-12)
    for i in range(found.shape[0]):
        for j in range(found.shape[1]):
            inner = one[:, : i + 1].mT @ two[:, : j + 1]
            assert float(found[i, j]) == pytest.approx(
                float(inner.norm() ** 2) / (min(i, j) + 1), abs=1e-12
            )


@given(SIZES)
@settings(max_examples=40, deadline=None)
def test_similarity_sees_spaces_and_not_their_axes(given_sizes):
    size, r1, r2, seed = given_sizes
    one, two = drawn(size, r1, seed), drawn(size, r2, seed + 1000)
    whole = drawn(size, size, seed + 5)  # a rotation of everything
    torch.testing.assert_close(similarity(whole @ one, whole @ two), similarity(one, two))
    turned = one @ drawn(one.shape[1], one.shape[1], seed + 7)  # other axes of the same space
    torch.testing.assert_close(similarity(turned, two)[-1, -1], similarity(one, two)[-1, -1])


def test_the_same_space_is_one_and_an_orthogonal_one_is_zero():
    space = drawn(12, 8, 0)
    torch.testing.assert_close(similarity(space, space).diagonal(), torch.ones(8).double())
    inside = similarity(space[:, :3], space)
    torch.testing.assert_close(inside[:, 2:], torch.ones(3, 6).double())
    assert float(similarity(space[:, :4], space[:, 4:]).abs().max()) < 1e-20


def test_random_spaces_are_as_similar_as_expected():
    size, found = 40, torch.zeros(3, 10).double()
    for seed in range(300):
        found += similarity(drawn(size, 3, seed), drawn(size, 10, seed + 9999)) / 300
    for i, j in ((1, 1), (2, 5), (3, 10), (1, 10)):
        assert float(found[i - 1, j - 1]) == pytest.approx(
            expected_similarity(size, i, j), rel=0.12
        )


def test_directions_are_those_of_the_factor():
    axes = drawn(20, 3, 1)
    factor = drawn(5, 3, 2) @ torch.diag(torch.tensor([3.0, 2.0, 1.0]).double()) @ axes.mT
    found = directions(factor)  # (5, 20) of rank 3: what is rounding has no direction
    assert found.shape == (20, 3)
    torch.testing.assert_close((found.mT @ axes).abs(), torch.eye(3).double(), atol=1e-9, rtol=0)
    assert directions(torch.zeros(4, 20)).shape == (20, 0)


def test_amplification_of_a_change_that_repeats_the_weight():
    U, V = drawn(16, 16, 3), drawn(12, 12, 4)
    strengths = torch.linspace(6, 1, 12).double()
    weight = U[:, :12] @ torch.diag(strengths) @ V.mT
    # The change strengthens directions 5 and 6 of the weight, by a factor of 7.
    own = 7 * U[:, 4:6] @ torch.diag(strengths[4:6]) @ V[:, 4:6].mT
    found = amplification(weight, Spectrum.of_dense(own), 2)
    assert found.factor == pytest.approx(7)
    assert found.along == pytest.approx(float(strengths[4:6].norm()))
    assert found.along_top == pytest.approx(float(strengths[:2].norm()))
    assert found.weight == pytest.approx(float(strengths.norm()))
    assert found.along_random < found.along_top
    nothing = amplification(torch.zeros(16, 12), Spectrum.of_dense(own), 2)
    assert nothing.factor == math.inf


def test_effective_ranks_of_known_spectra():
    assert effective_rank(torch.ones(5)) == pytest.approx(5)
    assert participation(torch.ones(5)) == pytest.approx(5)
    assert effective_rank(torch.tensor([3.0, 0.0, 0.0])) == pytest.approx(1)
    assert participation(torch.tensor([3.0, 0.0])) == pytest.approx(1)
    assert effective_rank(torch.zeros(3)) == participation(torch.zeros(3)) == 0
    two = torch.tensor([3.0, 1.0])  # by hand: shares 3/4 and 1/4; squares 9 and 1
    entropy = -0.75 * math.log(0.75) + 0.25 * math.log(4)
    assert effective_rank(two) == pytest.approx(math.exp(entropy))
    assert participation(two) == pytest.approx(100 / 82)
    assert effective_rank(two * 1e-8) == pytest.approx(effective_rank(two))
