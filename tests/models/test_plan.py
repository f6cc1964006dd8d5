from __future__ import annotations

import json

import pytest
import torch
import transformers

import lorakit as lk
from families import CONFIGS, SEQ2SEQ, build, inputs, randomise
from lorakit.models.roles import roles_of

# family -> how many of each role its two layers have (encoder-decoders have three attentions in
# two times two layers).
SPLIT = {"q": 2, "k": 2, "v": 2, "o": 2}
FUSED = {"qkv": 2, "q": 2, "k": 2, "v": 2, "o": 2}
TWO = {"up": 2, "down": 2}
GATED = {"up": 2, "gate": 2, "down": 2}
EXPECTED = {
    "bert": {**SPLIT, **TWO, "embed": 1}, "roberta": {**SPLIT, **TWO, "embed": 1},
    "distilbert": {**SPLIT, **TWO, "embed": 1}, "deberta-v2": {**SPLIT, **TWO, "embed": 1},
    "gpt2": {**FUSED, **TWO, "embed": 1, "head": 1},
    "gpt_neox": {**FUSED, **TWO, "embed": 1, "head": 1},
    "opt": {**SPLIT, **TWO, "embed": 1, "head": 1},
    "t5": {"q": 6, "k": 6, "v": 6, "o": 6, "up": 4, "down": 4, "embed": 2, "head": 1},
    "t5-gated": {
        "q": 6, "k": 6, "v": 6, "o": 6, "up": 4, "gate": 4, "down": 4, "embed": 2, "head": 1
    },
    "bart": {"q": 6, "k": 6, "v": 6, "o": 6, "up": 4, "down": 4, "embed": 2, "head": 1},
    **{
        family: {**SPLIT, **GATED, "embed": 1, "head": 1}
        for family in (
            "llama", "llama-tied", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3"
        )
    },
    "phi": {**SPLIT, **TWO, "embed": 1, "head": 1},
    "phi3": {**FUSED, "gate_up": 2, "gate": 2, "up": 2, "down": 2, "embed": 1, "head": 1},
}  # fmt: skip


@pytest.mark.parametrize("family", CONFIGS)
def test_roles_are_found_in_every_family(family):
    found = roles_of(build(family))
    found.pop("norm")
    if family in ("bert", "roberta", "distilbert", "deberta-v2"):
        assert len(found.pop("head")) == 2  # a transform and a decoder
    assert {role: len(paths) for role, paths in found.items()} == EXPECTED[family]


@pytest.mark.parametrize("family", CONFIGS)
def test_attention_and_mlp_make_up_all_linear_layers(family):
    model = build(family)
    both = {**lk.plan(model, ["attention", "mlp"])}
    linear = {**lk.plan(model, "all-linear")}
    rest = set(linear) - set(both)
    assert all("pos_" in path for path in rest)  # DeBERTa's projections of positions
    assert set(both) <= set(linear)


@pytest.mark.parametrize("family", CONFIGS)
@pytest.mark.parametrize("preset", ["attention", "mlp", "all-linear", "embeddings", "head"])
def test_every_preset_trains_on_every_family(family, preset):
    model = build(family)
    lk.inject(model, lk.plan(model, preset, 2), name="x")
    randomise(model, "x")
    model(**inputs(model)).logits.sum().backward()
    dead = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not dead


def test_a_plan_is_a_plain_mapping():
    plan = lk.plan(build("llama"), ["q", "*.layers.1.mlp.down_proj"], 4)
    assert json.loads(json.dumps(plan)) == plan
    assert list(plan.values()) == [4, 4, 4]
    assert "self_attn.q_proj" in str(plan)
    assert lk.adapters(build("llama")) == ()


def test_targets_of_every_kind():
    model = build("llama")
    q = [f"model.layers.{i}.self_attn.q_proj" for i in range(2)]
    for targets in (
        "q",
        "q_proj",
        "*.q_proj",
        "self_attn.q_proj",
        ["q"],
        q,
        ("*.0.*.q_proj", q[1]),
    ):
        assert list(lk.plan(model, targets)) == q
    assert list(lk.plan(model, lambda path, m: path.endswith("q_proj"))) == q
    assert list(lk.plan(model, "*.layers.1-5.self_attn.q_proj")) == q[1:]


def test_ranks_by_pattern_preset_and_role():
    model = build("llama")
    plan = lk.plan(model, "all-linear", {"*.layers.0.*": 0, "attention": 8, "down": 2, "*": 1})
    assert all(".layers.1." in target for target in plan)
    assert plan["model.layers.1.self_attn.v_proj"] == 8
    assert plan["model.layers.1.mlp.down_proj"] == 2
    assert plan["model.layers.1.mlp.up_proj"] == 1


@pytest.mark.parametrize(
    ("family", "targets", "rank", "message"),
    [
        ("llama", "q_prj", 8, "Did you mean 'q_proj'"),
        ("llama", "atention", 8, "Did you mean 'attention'"),
        ("llama", [], 8, "targets is empty"),
        ("llama", "*.nothing", 8, "means no layer"),
        ("llama", lambda path, m: False, 8, "says yes to none"),
        ("llama", [3], 8, "neither text nor callable"),
        ("llama", "qkv", 8, "has no 'qkv'"),
        ("llama", "model.rotary_emb", 8, "no low-rank form"),
        ("llama", "*act_fn", 8, "no low-rank form"),
        ("llama", "q", 0, "expected at least 1"),
        ("llama", "q", -1, "whole number"),
        ("llama", "q", True, "whole number"),
        ("llama", "q", 2.5, "whole number"),
        ("llama", "q", {"*.0.*": 4}, "Add a last pattern"),
        ("llama", "q", {"*.0.*": 4, "v": 2, "*": 1}, "means none of the targets"),
    ],
)
def test_what_plan_refuses(family, targets, rank, message):
    with pytest.raises(lk.LorakitError, match=message):
        lk.plan(build(family), targets, rank)


def test_unknown_families_work_with_explicit_targets():
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 4))
    assert list(lk.plan(model, "all-linear", 2)) == ["0", "2"]
    assert list(lk.plan(model, ["2"], 2)) == ["2"]
    with pytest.raises(lk.LorakitError, match="has no 'attention'"):
        lk.plan(model, "attention")


def test_a_model_on_meta_can_be_planned():
    import transformers

    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(CONFIGS["llama"]())
    assert len(lk.plan(model, "all-linear")) == 14


@pytest.mark.parametrize("family", SEQ2SEQ)
def test_embeddings_that_are_not_called_are_no_target(family):
    assert all("shared" not in target for target in lk.plan(build(family), "embeddings"))


def test_a_fused_projection_of_unknown_layout_has_no_parts():
    class Attention(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv = torch.nn.Linear(8, 24)

    model = torch.nn.ModuleDict({"attention": Attention()})
    with pytest.raises(lk.LorakitError, match="one matrix, qkv, whose layout is not known"):
        lk.plan(model, "q")
    assert dict(lk.plan(model, "qkv", 2)) == {"attention.qkv": 2}


def test_each_role_and_layer_has_its_own_rank(tmp_path):
    """The whole block: attention, feed-forward part and norms, layer by layer."""
    config = CONFIGS["llama"]()
    config.num_hidden_layers = 22
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    ranks = {"norms": 1, "v": 6, "*.layers.0-3.*": 4, "*.layers.20-*": 32, "*": 2}
    plan = lk.plan(model, targets="block", rank=ranks)
    assert len(plan) == 22 * (7 + 2) + 1
    expected = {
        "model.layers.0.self_attn.q_proj": 4, "model.layers.3.mlp.down_proj": 4,
        "model.layers.4.mlp.down_proj": 2, "model.layers.21.self_attn.o_proj": 32,
        "model.layers.21.self_attn.v_proj": 6, "model.layers.21.input_layernorm": 1,
        "model.norm": 1,
    }  # fmt: skip
    assert {target: plan[target] for target in expected} == expected
    lk.inject(model, plan)
    randomise(model, "default")
    lk.save(model, tmp_path / "a")
    torch.manual_seed(0)
    again = transformers.AutoModelForCausalLM.from_config(config).eval()
    lk.load(again, tmp_path / "a")
    batch = inputs(model)
    assert torch.equal(model(**batch).logits, again(**batch).logits)
    found = {layer.path: layer.rank for layer in lk.inspect(tmp_path / "a").layers}
    assert found == {target: rank for target, rank in plan.items() if "norm" not in target}
