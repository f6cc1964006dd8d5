"""Memory of meta tensors is counted as long as it is there, and work by its operations."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from lorakit.analysis.allocations import Allocations
from lorakit.analysis.attention import KernelAttention
from lorakit.core.errors import UnsupportedError


def meta(*size: int, dtype: torch.dtype = torch.float32, grad: bool = False) -> torch.Tensor:
    return torch.empty(*size, dtype=dtype, device="meta", requires_grad=grad)


def test_the_peak_is_what_is_there_at_once():
    x = meta(256)
    with Allocations() as seen:
        seen.own(x, "weights")
        big = x.repeat(4)
        assert seen.live == {"weights": 1024, "temporary": 4096}
        del big
        two = [x.clone(), x.clone()]
        del two
    assert seen.most == 1024 + 4096
    assert seen.peak == {"weights": 1024, "temporary": 4096}
    assert seen.live["temporary"] == 0


def test_views_and_changes_in_place_take_nothing():
    x = meta(16, 16)
    with Allocations() as seen:
        seen.own(x, "weights")
        x.view(4, 64).T.add_(1)
        x[2:, 3:].mul_(2)
    assert seen.most == 16 * 16 * 4


def test_what_autograd_keeps_is_given_back_as_it_goes():
    weight, x = meta(64, 64, grad=True), meta(8, 64)
    with Allocations() as seen:
        seen.own(weight, "weights")
        seen.own(x, "weights")
        loss = F.linear(x, weight).sigmoid().square().sum()
        kept = seen.live["temporary"]
        loss.backward()
        del loss
        assert seen.live["temporary"] == 64 * 64 * 4  # the gradient alone
    assert kept == 8 * 64 * 4 + 4  # the sigmoid, of which both gradients are made, and the loss


def test_moved_memory_is_counted_elsewhere_and_still_given_back():
    with Allocations() as seen:
        x = torch.ones(10, device="meta")
        seen.move(x, "activations", out_of="gradients")
        assert seen.live["temporary"] == 40
        seen.move(x, "activations")
        seen.move_all("loss", out_of="activations")
        assert seen.live["loss"] == 40
        del x
    assert not any(seen.live.values())


def test_packed_weights_are_unpacked_for_the_time_of_their_use():
    weight, x = meta(64, 64), meta(2, 64)
    with Allocations() as seen:
        seen.own(weight, "weights", 64 * 32)
        F.linear(x, weight)
    assert seen.live["weights"] == 64 * 32
    assert seen.most == 64 * 32 + 64 * 64 * 4 + 2 * 64 * 4


def test_products_and_bytes_are_counted():
    with Allocations() as seen:
        meta(4, 8) @ meta(8, 2)
    assert (2 * 4 * 8 * 2, 4 * (32 + 16 + 8)) in seen.work


@pytest.mark.parametrize("full", [True, False])
def test_a_mask_is_asked_whether_rows_are_full_and_nothing_else(full):
    mask = meta(4, 4, dtype=torch.int64)
    with Allocations(full=full, counted=0.25) as seen:
        assert bool(mask.all()) is full
        assert len(mask.flatten().nonzero()) == 4
        with pytest.raises(UnsupportedError, match="only real data"):
            mask.sum().item()
    del seen


def attended(*, dropout: float, mask: bool = False, tokens: int = 32) -> Allocations:
    query, key, value = (meta(2, 3, tokens, 16, grad=True) for _ in range(3))
    allowed = meta(2, 1, tokens, tokens, dtype=torch.bool) if mask else None
    with Allocations() as seen, KernelAttention(seen):
        out = F.scaled_dot_product_attention(query, key, value, allowed, dropout)
        assert out.shape == query.shape
        out.sum().backward()
        assert query.grad is not None
        assert query.grad.shape == query.shape
    return seen


def test_attention_keeps_no_scores_unless_they_are_dropped():
    # Without dropout twice the tokens are twice the memory; with it, scores grow with the square.
    twice = attended(dropout=0.0, tokens=64).most
    assert twice == pytest.approx(2 * attended(dropout=0.0).most, rel=1e-3)
    assert attended(dropout=0.1, tokens=64).most > 3 * attended(dropout=0.1).most
    masked = attended(dropout=0.0, mask=True, tokens=256).most
    assert masked > attended(dropout=0.0, tokens=256).most  # the kernel adds the mask as numbers


def test_attention_counts_two_products_forward_and_five_backward():
    products = sum(flops * times for (flops, _), times in attended(dropout=0.0).work.items())
    assert products == 7 * 2 * (2 * 3 * 32 * 32 * 16)
