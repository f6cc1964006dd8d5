"""An adapter at another strength changes the weights by that multiple."""

from __future__ import annotations

import pytest
import torch

import lorakit as lk
from families import build, inputs, randomise
from lorakit.core.errors import UnsupportedError
from lorakit.core.strength import set_strength
from test_laws import assert_same, snapshot


def answer(model) -> torch.Tensor:
    with torch.no_grad():
        return model(**inputs(model)).logits


def adapted(method, targets, rank=2):
    model = build("llama-tied")
    lk.inject(model, lk.plan(model, targets, rank), name="one", method=method)
    randomise(model, "one", scale=0.05)
    return model


CASES = {
    "low rank": (lambda: lk.LoRA(alpha=4), ["attention", "norms"]),
    "anchored": (lambda: lk.LoRA(alpha=4, init="pissa"), "attention"),
    "in full, tied": (lk.Full, "everything"),
    "norms": (lk.NormTuning, "norms"),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0, 1.5])
def test_weights_move_by_that_multiple(case, strength):
    method, targets = CASES[case]
    model = adapted(method(), targets)
    base = {key: p.detach().clone() for key, p in model.named_parameters() if ".lora." not in key}
    with lk.merged(model, "one"):
        whole = {key: p.detach().clone() for key, p in model.named_parameters() if key in base}
    set_strength(model, "one", strength)
    with lk.merged(model, "one"):
        part = {key: p.detach().clone() for key, p in model.named_parameters() if key in base}
    for key, before in base.items():
        expected = before + strength * (whole[key] - before)
        torch.testing.assert_close(part[key], expected, rtol=1e-5, atol=1e-6)


def test_at_strength_zero_the_base_answers():
    model = adapted(lk.LoRA(alpha=4), "all-linear")
    with lk.use(model):
        base = answer(model)
    assert not torch.equal(answer(model), base)
    set_strength(model, "one", 0.0)
    assert torch.equal(answer(model), base)


@pytest.mark.parametrize(("method", "targets"), [(lk.DoRA(), "attention"), (lk.Houlsby(), "o")])
def test_what_is_not_linear_is_refused(method, targets):
    model = adapted(method, targets)
    before = snapshot(model)
    with pytest.raises(UnsupportedError, match="not linear"):
        set_strength(model, "one", 0.5)
    with pytest.raises(UnsupportedError, match="finite"):
        set_strength(model, "one", float("nan"))
    assert_same(before, snapshot(model))


def test_layers_are_turned_off_one_by_one():
    model = build("llama")
    model.eval()
    lk.inject(model, lk.plan(model, ["q", "v"], 4), name="a")
    randomise(model, "a")
    both = lk.plan(model, ["q", "v"], 4)
    off = [path for path in both if path.endswith("q_proj")]
    other = build("llama")
    other.eval()
    lk.inject(other, both, name="a")
    randomise(other, "a")
    set_strength(model, "a", 0.0, paths=off)
    for path in off:
        set_strength(other, "a", 0.0, paths=[path])
    rows = inputs(model)
    with torch.no_grad():
        left, right = model(**rows).logits, other(**rows).logits
        with lk.use(model):
            bare = model(**rows).logits
    assert torch.equal(left, right)
    assert not torch.equal(left, bare)
    with pytest.raises(UnsupportedError, match="nothing at 'none'"):
        set_strength(model, "a", 0.5, paths=["none", *off])
    with torch.no_grad():
        assert torch.equal(model(**rows).logits, left), "nothing was changed by a refusal"
    set_strength(model, "a", 0.0)
    with torch.no_grad():
        assert torch.equal(model(**rows).logits, bare)
