"""Norms: an additive change of scale and shift, for every type that is known."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import lorakit as lk
from families import build, inputs, randomise
from lorakit.layers.norm import is_norm


class Net(nn.Module):
    """A norm between two linear layers."""

    def __init__(self, norm: nn.Module):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(6, 8), norm, nn.Linear(8, 3)

    def forward(self, x):
        return self.last(self.norm(self.first(x)))


NORMS = {
    "layer": lambda: nn.LayerNorm(8),
    "layer, no shift": lambda: nn.LayerNorm(8, bias=False),
    "group": lambda: nn.GroupNorm(4, 8),
    "rms": lambda: nn.RMSNorm(8),
    "rms with its eps": lambda: nn.RMSNorm(8, eps=1e-3),
}


@pytest.mark.parametrize("make", NORMS.values(), ids=NORMS.keys())
def test_two_changes_of_a_norm_add_up_and_merge(make):
    torch.manual_seed(0)
    model, x = Net(make()), torch.randn(5, 6)
    base = model(x)
    for seed, name in enumerate(("one", "two")):
        report = lk.inject(model, lk.plan(model, ["norm"]), name=name)
        assert report.parameters == sum(p.numel() for p in make().parameters())
        assert torch.equal(model(x), base)
        lk.activate(model, name)
        randomise(model, name, seed=seed, scale=0.5)
        lk.activate(model)
    with lk.use(model, "one", "two"):
        expected = model(x)
    with lk.merged(model, "one", "two"):
        torch.testing.assert_close(model(x), expected)
    with lk.use(model, per_sample=["one", None, "two", "one", None]):
        mixed = model(x)
    assert torch.equal(mixed[1], base[1])
    with lk.use(model, "one"):
        torch.testing.assert_close(mixed[3], model(x)[3])
    assert (expected - base).abs().max() > 0.1


def test_gradients_are_those_of_the_norm_itself():
    torch.manual_seed(0)
    model, x = Net(nn.LayerNorm(8)), torch.randn(5, 6)
    model(x).square().sum().backward()
    expected = model.norm.weight.grad, model.norm.bias.grad
    lk.inject(model, lk.plan(model, ["norm"]))
    model(x).square().sum().backward()
    update = model.norm.lora.a0.norm
    torch.testing.assert_close(update.weight.grad, expected[0])
    torch.testing.assert_close(update.bias.grad, expected[1])


@pytest.mark.parametrize(
    "layer", [nn.LayerNorm(8, elementwise_affine=False), nn.BatchNorm1d(8), nn.InstanceNorm1d(8)]
)
def test_other_norms_are_refused_by_type(layer):
    assert not is_norm(layer)
    with pytest.raises(lk.LorakitError, match="has no low-rank form"):
        lk.inject(Net(layer), {"norm": 1})


@pytest.mark.filterwarnings("ignore")  # PEFT warns where it corrects itself
@pytest.mark.parametrize("family", ["bert", "llama", "t5", "gemma2"])
def test_peft_reads_and_writes_them_as_modules_to_save(family, tmp_path):
    peft = pytest.importorskip("peft")
    model = build(family)
    lk.inject(model, lk.plan(model, ["norms", "q"], 3))
    randomise(model, "default", scale=0.4)
    expected = model(**inputs(model)).logits
    lk.save(model, tmp_path / "ours")
    theirs = peft.PeftModel.from_pretrained(build(family), tmp_path / "ours").eval()
    torch.testing.assert_close(theirs(**inputs(model)).logits, expected)
    theirs.save_pretrained(tmp_path / "theirs")
    again = build(family)
    report = lk.load(again, tmp_path / "theirs")
    assert report.sites == len(lk.plan(build(family), ["norms", "q"]))
    assert torch.equal(again(**inputs(again)).logits, expected)
    assert any(".norm." in name for name, _ in again.named_parameters() if ".lora." in name)


def test_a_norm_that_is_not_linear_in_its_scale_is_none():
    class OddRMSNorm(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight, self.eps = nn.Parameter(torch.ones(8)), 1e-6

        def forward(self, x):
            x = x * self.weight
            return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps)

    OddRMSNorm.__module__ = "transformers.models.odd.modeling_odd"
    assert not is_norm(OddRMSNorm())

    class BiasedRMSNorm(OddRMSNorm):
        def __init__(self):
            super().__init__()
            self.bias = nn.Parameter(torch.ones(8))

    BiasedRMSNorm.__module__ = OddRMSNorm.__module__
    assert not is_norm(BiasedRMSNorm())
