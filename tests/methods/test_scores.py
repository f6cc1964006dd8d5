"""What ranks are worth, beside autograd, numpy and the definitions."""

from __future__ import annotations

import copy

import pytest
import torch

import lorakit as lk
from families import EXPERTS, build, inputs
from lorakit.layers.form import Form
from lorakit.methods.gradients import own_loss, weight_gradients
from lorakit.methods.scores import by_activation, by_gradient, by_weight


def batches(model, count: int = 3):
    found = [inputs(model, rows=4, seed=seed) for seed in range(count)]
    if model.main_input_name == "pixel_values":
        return [{**batch, "labels": torch.arange(4)} for batch in found]
    return [{**batch, "labels": batch["input_ids"]} for batch in found]


def forms(model, targets):
    return {target: Form.of(model, target) for target in lk.plan(model, targets, 1)}


CASES = [
    ("llama", ["all-linear", "embeddings"]), ("gpt2", ["q", "v", "mlp"]), ("bert", "attention"),
    ("resnet", ["*.convolution"]), *((family, ["experts", "q"]) for family in EXPERTS),
]  # fmt: skip


@pytest.mark.parametrize(("family", "targets"), CASES, ids=[case[0] for case in CASES])
def test_gradients_are_those_of_full_fine_tuning(family, targets):
    head = "classes" if family == "bert" else "lm"
    model = build(family, head=head)
    own = forms(model, targets)
    given = batches(model)
    if head == "classes":
        given = [{**batch, "labels": torch.arange(4) % 3} for batch in given]
    full = copy.deepcopy(model)
    for parameter in full.parameters():
        parameter.requires_grad_(True)
    for batch in given:
        full(**batch).loss.backward()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    found = weight_gradients(model, own, given, own_loss, who="test")
    assert found.keys() == own.keys()
    assert all(p.grad is None and not p.requires_grad for p in model.parameters())
    hooks = [m for m in model.modules() if m._forward_hooks]
    assert not hooks
    for target, form in own.items():
        if family == "resnet" or "embed" in target or form.lead:
            name = target.partition(":")[2] or "weight"
            layer = full.get_submodule(form.path)
            value = layer._parameters[name]
            layer._parameters[name] = value.grad
            expected = form.geometry.matrix(layer)
            layer._parameters[name] = value
        else:
            whole = full.get_submodule(form.path).weight.grad
            expected = whole if whole.shape == form.layer.weight.shape else whole.T
            expected = expected.T if family == "gpt2" else expected
            expected = expected if form.outputs is None else expected[form.outputs]
        torch.testing.assert_close(found[target], expected.float(), rtol=1e-3, atol=1e-6)


def test_a_rank_is_worth_what_its_share_of_a_step_lowers_the_loss():
    """First order: the best rank-r part of a step of length 1 along the gradient."""
    model = build("llama")
    given, path = batches(model, 1), "model.layers.0.mlp.up_proj"
    own = {path: Form.of(model, path)}
    G = weight_gradients(model, own, given, own_loss, who="test")[path]
    gains = by_gradient(model, own, given, own_loss)[path]
    assert gains.sum().item() == pytest.approx(G.norm().item(), rel=1e-5)
    assert gains.tolist() == sorted(gains.tolist(), reverse=True)
    U, S, Vh = torch.linalg.svd(G / G.norm())
    before = model(**given[0]).loss.item()
    layer = model.get_submodule(path)
    for rank in (1, 3):
        step = U[:, :rank] * S[:rank] @ Vh[:rank]
        with torch.no_grad():
            layer.weight -= 0.01 * step
            after = model(**given[0]).loss.item()
            layer.weight += 0.01 * step
        assert (before - after) / 0.01 == pytest.approx(gains[:rank].sum().item(), rel=0.05)


def test_shares_of_weights_and_inputs_are_those_of_the_definition():
    model = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Linear(5, 4))
    own = {path: Form.of(model, path) for path in ("0", "1")}
    squares = torch.linalg.svdvals(model[1].weight.detach().double()).square()
    torch.testing.assert_close(by_weight(own)["1"], squares / squares.sum(), rtol=1e-5, atol=1e-7)
    rows = torch.randn(40, 6)
    found = by_activation(model, own, rows.split(10), {"0": 3, "1": 5})
    inside = torch.linalg.svdvals(rows.double()).square()
    assert len(found["0"]) == 3
    share = (inside / inside.sum())[:3]
    assert found["0"].sum().item() == pytest.approx(share.sum().item(), rel=0.1)  # of what is kept
    inside = torch.linalg.svdvals(model[0](rows).detach().double()).square()
    torch.testing.assert_close(found["1"], inside / inside.sum(), rtol=1e-3, atol=1e-6)
