"""The loss made in chunks: the same number and gradient as that of all logits together."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lorakit.models import token_loss as module
from lorakit.models.token_loss import token_loss


@pytest.fixture(params=[1, 3, 64], ids="chunks of {}".format)
def chunked(request, monkeypatch):
    """Rows of a chunk: one, a number that divides nothing, and more than there are."""
    monkeypatch.setattr(module, "LOGITS", 0)
    monkeypatch.setattr(module, "_ROWS", request.param)


def labels_for(mask: str) -> torch.Tensor:
    labels = torch.arange(11) % 7
    if mask == "some":
        labels[[0, 4, 10]] = -100
    elif mask == "a chunk":
        labels[3:6] = -100
    elif mask == "all":
        labels[:] = -100
    return labels


def both(dtype, mask, smoothing, bias):
    torch.manual_seed(0)
    head = nn.Linear(5, 7, bias=bias).to(dtype).requires_grad_(False)
    x = torch.randn(11, 5).to(dtype)
    labels = labels_for(mask)
    found, exact = x.clone().requires_grad_(), x.double().requires_grad_()
    loss = token_loss(found, head, labels, smoothing=smoothing)
    expected = F.cross_entropy(
        head.double()(exact), labels, reduction="sum", label_smoothing=smoothing
    )
    head.to(dtype)
    (loss * 0.25).backward()
    (expected * 0.25).backward()
    return loss, expected, found.grad, exact.grad


@pytest.mark.usefixtures("chunked")
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("mask", ["none", "some", "a chunk", "all"])
def test_loss_and_gradient_are_those_of_float64(mask, smoothing, bias):
    loss, expected, grad, exact = both(torch.float32, mask, smoothing, bias)
    torch.testing.assert_close(loss.double(), expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(grad.double(), exact, rtol=1e-5, atol=1e-7)
    loss, expected, grad, exact = both(torch.bfloat16, mask, smoothing, bias)
    assert loss.dtype == torch.float32
    assert grad.dtype == torch.bfloat16
    torch.testing.assert_close(loss.double(), expected, rtol=3e-3, atol=0)
    torch.testing.assert_close(grad.double(), exact, rtol=0, atol=4e-3)


@pytest.mark.usefixtures("chunked")
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_the_gradient_is_that_of_the_loss(smoothing):
    torch.manual_seed(0)
    head = nn.Linear(3, 7).double().requires_grad_(False)
    x = torch.randn(11, 3, dtype=torch.float64, requires_grad=True)
    labels = labels_for("some")
    assert torch.autograd.gradcheck(lambda x: token_loss(x, head, labels, smoothing=smoothing), x)


def test_a_label_that_no_output_has_is_an_error():
    head = nn.Linear(3, 7).requires_grad_(False)
    for label in (7, -1):
        with pytest.raises((IndexError, RuntimeError), match="out of bounds"):
            token_loss(torch.randn(2, 3), head, torch.tensor([0, label]))


def test_nothing_is_kept_but_the_gradient():
    head = nn.Linear(3, 50).requires_grad_(False)
    kept = []

    def pack(value):
        kept.append(value.shape)
        return value

    x = torch.randn(4, 3, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        token_loss(x, head, torch.arange(4))
    assert kept == [x.shape]
