"""Bases whose weights are still to come: refused until they are there, then as any other."""

from __future__ import annotations

import pytest
import torch

import lorakit as lk
from families import build, inputs, randomise
from test_laws import same_bits


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A base with an adapter on it, and the adapter's folder."""
    model = build("llama")
    lk.inject(model, lk.plan(model, "all-linear", 2), name="x")
    randomise(model, "x")
    return model, lk.save(model, tmp_path_factory.mktemp("meta") / "x")


def structure(model):
    with torch.device("meta"):
        return type(model)(model.config)


def filled(model):
    """The structure with the weights of the base, brought in as large models are loaded."""
    empty = structure(model).to_empty(device="cpu")
    base = build("llama")
    empty.load_state_dict(base.state_dict(), assign=True)
    for name, value in base.named_buffers():  # those that are not saved, such as frequencies
        path, _, leaf = name.rpartition(".")
        empty.get_submodule(path)._buffers[leaf] = value
    return empty.eval()


def untouched(model) -> bool:
    return (
        lk.adapters(model) == ()
        and not any(module._forward_hooks for module in model.modules())
        and all(p.is_meta and p.requires_grad for p in model.parameters())
        and "lora" not in str(model)
    )


@pytest.mark.parametrize(
    "method",
    [lk.LoRA(), lk.LoRA(init="pissa"), lk.LoRA(extras=("lm_head",)), lk.DoRA(), lk.VeRA()],
    ids=["lora", "pissa", "extras", "dora", "vera"],
)
def test_nothing_is_injected_where_there_are_no_weights_yet(trained, method):
    model = structure(trained[0])
    with pytest.raises(lk.LorakitError, match="meta device"):
        lk.inject(model, lk.plan(model, ["q", "v"], 2), method=method)
    assert untouched(model)


def test_nothing_is_loaded_where_there_are_no_weights_yet(trained):
    model = structure(trained[0])
    with pytest.raises(lk.LorakitError, match="meta device"):
        lk.load(model, trained[1], name="x")
    assert untouched(model)


def test_a_base_that_got_its_weights_late_is_as_any_other(trained):
    model, folder = trained
    late = filled(model)
    lk.load(late, folder, name="x")
    with torch.no_grad():
        x = inputs(late)
        assert same_bits(late(**x).logits, model.eval()(**x).logits)
        with lk.use(late), lk.use(model):
            assert same_bits(late(**x).logits, model(**x).logits)
    lk.inject(late, lk.plan(late, "q", 2), name="y")
    assert not any(parameter.is_meta for parameter in late.parameters())


def test_layers_with_weights_are_adapted_beside_others_without(trained):
    model = structure(trained[0])
    layer = model.model.layers[0].self_attn.q_proj
    layer.to_empty(device="cpu")
    lk.inject(model, {"model.layers.0.self_attn.q_proj": 2}, name="x")
    assert not any(parameter.is_meta for parameter in layer.parameters())
    other = "model.layers.1.self_attn.q_proj"
    with pytest.raises(lk.LorakitError, match=other):
        lk.inject(model, {other: 2}, name="y")
    assert lk.adapters(model) == ("x",)
