from __future__ import annotations

import pickle

import pytest
import torch
from torch import nn

import lorakit as lk
from families import build, inputs, randomise
from lorakit.core.site import base_parameters, own_parameters, walk


class Own(torch.nn.Module):
    """Layers called by keyword, in a container, and one with an attribute that is in the way."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first = torch.nn.Linear(4, 4)
        self.layers = torch.nn.ModuleDict({"second": torch.nn.Linear(4, 4)})
        self.taken = torch.nn.Linear(4, 4)
        self.taken.lora = torch.nn.Identity()

    def forward(self, x):
        return self.taken(self.layers["second"](input=self.first(x)))


def test_layers_called_by_keyword():
    model, x = Own(), torch.randn(2, 4)
    before = model(x)
    lk.inject(model, {"layers.second": 2}, name="x")
    assert torch.equal(model(x), before)
    randomise(model, "x")
    assert not torch.equal(model(x), before)
    with lk.use(model, per_sample=["x", None]):
        assert torch.equal(model(x)[1], before[1])


def test_an_attribute_in_the_way_is_refused():
    with pytest.raises(lk.LorakitError, match="attribute 'lora' of its own"):
        lk.inject(Own(), {"taken": 2})


def test_one_module_under_two_names_is_named_once():
    model = torch.nn.Module()
    model.a = model.b = torch.nn.Linear(4, 4)
    with pytest.raises(lk.LorakitError, match="same module"):
        lk.inject(model, {"a": 2, "b": 2})


def test_rank_zero_leaves_a_layer_out():
    model = build("llama")
    plan = lk.plan(model, "q", 2)
    plan["model.layers.0.self_attn.q_proj"] = 0
    report = lk.inject(model, plan)
    assert report.sites == 1


def test_a_plan_of_nothing_is_refused():
    with pytest.raises(lk.LorakitError, match="no target"):
        lk.inject(build("llama"), {})


def test_adapters_cannot_be_adapted():
    model = build("llama")
    lk.inject(model, lk.plan(model, "q", 2), name="x")
    inside = "model.layers.0.self_attn.q_proj.lora"
    for path in (inside, f"{inside}.a0"):
        with pytest.raises(lk.LorakitError, match="belongs to an adapter"):
            lk.inject(model, {path: 2}, name="y")
    assert all(".lora" not in target for target in lk.plan(model, "all-linear"))


def test_a_layer_that_is_trained_in_full_is_planned_once():
    model = build("llama")
    before = lk.plan(model, "all-linear")
    whole = lk.LoRA(extras=("model.layers.0.mlp.up_proj",))
    lk.inject(model, lk.plan(model, "q", 2), method=whole)
    assert lk.plan(model, "all-linear") == before


def test_what_adapters_hold_is_never_walked():
    model = build("llama")
    paths = [path for path, _ in walk(model)]
    assert paths == [path for path, _ in model.named_modules()]
    assert list(base_parameters(model)) == [name for name, _ in model.named_parameters()]
    names = list(own_parameters(model))
    assert names == [name for name, _ in model.named_parameters(remove_duplicate=False)]
    for name in "xyz":
        lk.inject(model, lk.plan(model, "all-linear", 2), name=name)
    assert [path for path, _ in walk(model)] == paths
    assert list(own_parameters(model)) == names


def test_only_the_adapter_is_trained():
    model = build("llama")
    lk.inject(model, lk.plan(model, "q", 2))
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained
    assert all(".lora.a0." in name for name in trained)
    model(**inputs(model)).logits.sum().backward()
    assert all((p.grad is not None) == p.requires_grad for p in model.parameters())


def test_flags_that_were_off_stay_off_after_removal():
    model = build("llama")
    model.lm_head.weight.requires_grad_(False)
    lk.inject(model, lk.plan(model, "q", 2), name="x")
    lk.remove(model, "x")
    off = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert off == {"lm_head.weight"}


def test_pickled_models_keep_their_adapters():
    model = build("gpt2")
    lk.inject(model, lk.plan(model, "all-linear", 2), name="x")
    randomise(model, "x")
    other = pickle.loads(pickle.dumps(model))
    with torch.no_grad():
        assert torch.equal(other(**inputs(model)).logits, model(**inputs(model)).logits)
    lk.remove(other, "x")
    assert lk.adapters(model) == ("x",)


def test_the_base_keeps_its_keys_class_and_identity():
    model = build("llama")
    keys, kind = list(model.state_dict()), type(model)
    lk.inject(model, lk.plan(model, "all-linear", 2))
    assert type(model) is kind
    assert set(keys) <= set(model.state_dict())


def test_evaluation_mode_has_no_dropout():
    model = build("llama")
    lk.inject(model, lk.plan(model, "q", 2), name="x", method=lk.LoRA(dropout=0.5))
    randomise(model, "x")
    batch = inputs(model)
    assert torch.equal(model(**batch).logits, model(**batch).logits)
    model.train()
    assert not torch.equal(model(**batch).logits, model(**batch).logits)


def test_torch_encoders_do_not_read_past_the_adapter():
    """nn.TransformerEncoderLayer has a fast path that reads weights: hooks must switch it off."""
    torch.manual_seed(0)
    model = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    x = torch.randn(2, 5, 8)
    lk.inject(model, {"linear1": 2, "linear2": 2}, name="x")
    randomise(model, "x")
    with torch.no_grad():
        found = model(x)
        with lk.merged(model, "x"):
            assert torch.allclose(model(x), found, atol=1e-5)
        with lk.use(model):
            assert not torch.allclose(model(x), found, atol=1e-3)


@pytest.mark.parametrize("path", ["self_attn", "self_attn.out_proj", "dropout1"])
def test_layers_that_cannot_be_right_are_refused_by_type(path):
    model = torch.nn.TransformerEncoderLayer(8, 2, 16)
    with pytest.raises(lk.LorakitError, match="no low-rank form"):
        lk.inject(model, {path: 2})


def test_an_embedding_that_writes_into_its_weight_is_refused():
    model = torch.nn.Sequential(torch.nn.Embedding(10, 4, max_norm=1.0))
    with pytest.raises(lk.LorakitError, match="max_norm"):
        lk.inject(model, {"0": 2})


def test_an_extra_that_holds_a_target_is_refused():
    model = build("bert", head="classes")
    with pytest.raises(lk.LorakitError, match="trained in full"):
        lk.inject(model, {"bert.pooler.dense": 2}, method=lk.LoRA(extras=("bert.pooler",)))


@pytest.mark.parametrize(
    "options",
    [
        {"alpha": 0}, {"alpha": float("nan")}, {"alpha": "8"}, {"alpha": {"q": None}},
        {"dropout": 1.0}, {"dropout": -0.1}, {"bias": "sometimes"}, {"extras": "classifier"},
        {"dtype": torch.int8},
    ],
)  # fmt: skip
def test_options_that_cannot_be_meant(options):
    with pytest.raises(lk.LorakitError, match="expected"):
        lk.LoRA(**options)


def test_alpha_by_pattern_needs_one_for_every_target():
    model = build("llama")
    with pytest.raises(lk.LorakitError, match=r"No alpha for 'model\.layers\.1"):
        lk.inject(model, lk.plan(model, "q", 2), method=lk.LoRA(alpha={"*.0.*": 4}))


def test_the_encoders_fast_path_does_not_pass_by_an_adapter():
    """In evaluation PyTorch's encoder reads weights itself, unless there are hooks."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, dropout=0.0)
    model = nn.TransformerEncoder(layer, 2).eval()
    x = torch.randn(2, 5, 16)
    with torch.no_grad():
        base = model(x)
    lk.inject(model, lk.plan(model, "all-linear", 2))
    randomise(model, "default", scale=0.5)
    with torch.no_grad():
        fast = model(x)
    assert (fast - base).abs().max() > 0.1
    torch.testing.assert_close(fast, model(x), rtol=1e-4, atol=1e-5)
