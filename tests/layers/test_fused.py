"""Parts of fused projections: that each is what its name says, and that no file loses them."""

from __future__ import annotations

import json

import peft
import pytest
import torch
import transformers as tf
from torch import nn

import lorakit as lk
from families import VOCABULARY, build, inputs, randomise
from lorakit.core.errors import AdapterFileError, PlanError
from lorakit.layers.fused import slices_of

_small = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2}
_heads = {"num_attention_heads": 4, "intermediate_size": 48, "max_position_embeddings": 64}
_gpt = {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
_falcon = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
}  # fmt: skip
_grouped = {"num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0}
CONFIGS = {
    "gpt2": lambda: tf.GPT2Config(**_gpt),
    "gpt_bigcode": lambda: tf.GPTBigCodeConfig(**_gpt),
    "gpt_bigcode, all heads": lambda: tf.GPTBigCodeConfig(multi_query=False, **_gpt),
    "gpt_neox": lambda: tf.GPTNeoXConfig(**_small, **_heads),
    "gpt_neox_japanese": lambda: tf.GPTNeoXJapaneseConfig(
        **_small, num_attention_heads=4, max_position_embeddings=64, intermediate_multiple_size=2
    ),
    "bloom": lambda: tf.BloomConfig(vocab_size=VOCABULARY, hidden_size=32, n_layer=2, n_head=4),
    "mpt": lambda: tf.MptConfig(
        vocab_size=VOCABULARY, d_model=32, n_layers=2, n_heads=4, max_seq_len=64
    ),
    "falcon, one key": lambda: tf.FalconConfig(**_falcon, multi_query=True),
    "falcon, groups": lambda: tf.FalconConfig(
        **_falcon, new_decoder_architecture=True, num_kv_heads=2
    ),
    "falcon, all heads": lambda: tf.FalconConfig(**_falcon, multi_query=False),
    "persimmon": lambda: tf.PersimmonConfig(**_small, **_heads),
    "modernbert": lambda: tf.ModernBertConfig(**_small, **_heads, pad_token_id=0),
    "phi3": lambda: tf.Phi3Config(**_small, **_heads, **_grouped),
    "glm": lambda: tf.GlmConfig(**_small, **_heads, **_grouped),
    "glm4": lambda: tf.Glm4Config(**_small, **_heads, **_grouped),
}


def body(config) -> nn.Module:
    torch.manual_seed(0)
    return tf.AutoModel.from_config(config).eval()


def fused(model: nn.Module, part: str) -> str:
    """The first layer that has the part."""
    return next(p for p, m in model.named_modules() if p and part in slices_of(model, p))


def change_at_first_token(family: str, part: str, tokens: int) -> torch.Tensor:
    """How much the attention's output moves, (tokens, width), when a part hears token 0 alone."""
    model = body(CONFIGS[family]())
    path = fused(model, part)
    layer, attention = model.get_submodule(path), model.get_submodule(path.rpartition(".")[0])
    seen: dict[str, torch.Tensor] = {}
    layer.register_forward_pre_hook(lambda m, args: seen.update(x=args[0][0].detach()))
    attention.register_forward_hook(lambda m, args, out: seen.update(out=out[0][0].detach()))
    ids = torch.tensor([[5, 9, 17][:tokens]])
    with torch.no_grad():
        model(input_ids=ids)
        before, x = seen["out"], seen["x"].reshape(tokens, -1)
        lk.inject(model, {f"{path}:{part}": 1}, method=lk.LoRA(alpha=1))
        update = layer.lora.a0[f"low_rank:{part}"]
        # A direction of token 0 that every other token lacks.
        rest = x[1:]
        own = x[0] - (torch.linalg.pinv(rest) @ (rest @ x[0]) if tokens > 1 else 0)
        update.A.copy_(3 * own[None] / own.norm())
        update.B.copy_(torch.randn(update.B.shape, generator=torch.Generator().manual_seed(0)))
        model(input_ids=ids)
    return (seen["out"] - before).reshape(tokens, -1).abs().amax(1)


ATTENTION = [family for family in CONFIGS if not family.startswith("glm")]


@pytest.mark.parametrize("family", ATTENTION)
def test_query_key_and_value_do_what_their_names_say(family):
    # A single token looks at itself, whatever its query and key are.
    alone = {part: change_at_first_token(family, part, 1)[0] for part in "qkv"}
    assert alone["q"] < 1e-6
    assert alone["k"] < 1e-6
    assert alone["v"] > 1e-3
    # The query of token 0 is its own affair; its key is what later tokens look for.
    later = {part: change_at_first_token(family, part, 3)[1:].max() for part in "qk"}
    assert later["q"] < 1e-6
    assert later["k"] > 1e-5


@pytest.mark.parametrize("family", ["phi3", "glm", "glm4"])
def test_gate_and_up_do_what_their_names_say(family):
    model, x = body(CONFIGS[family]()), torch.randn(3, 32)
    path = fused(model, "up")
    layer, mlp = model.get_submodule(path), model.get_submodule(path.rpartition(".")[0])
    with torch.no_grad():
        before, parts = mlp(x), slices_of(model, path)
        for part in ("up", "gate"):
            lk.inject(model, {f"{path}:{part}": 32}, name=part, method=lk.LoRA(alpha=32))
            update = layer.lora.get_submodule(f"a{('up', 'gate').index(part)}.low_rank:{part}")
            update.A.copy_(torch.eye(32))
            update.B.copy_(layer.weight[parts[part]])
        with lk.use(model, "up"):  # the products double
            torch.testing.assert_close(mlp(x), 2 * before)
        with lk.use(model, "gate"):
            assert (mlp(x) - 2 * before).abs().max() > 1e-4


@pytest.mark.parametrize("family", CONFIGS)
def test_parts_cover_a_layer_once(family):
    model = body(CONFIGS[family]())
    paths = [p for p, m in model.named_modules() if p and slices_of(model, p)]
    assert paths
    for path in paths:
        parts = torch.cat(list(slices_of(model, path).values()))
        layer = model.get_submodule(path)
        width = layer.weight.shape[1 if type(layer).__name__ == "Conv1D" else 0]
        assert torch.equal(parts.sort().values, torch.arange(width))


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "phi3"])
@pytest.mark.filterwarnings("ignore")  # PEFT warns where it corrects itself
@pytest.mark.parametrize("rslora", [False, True])
def test_peft_computes_the_same_from_our_folder(family, rslora, tmp_path):
    model = build(family)
    plan = lk.plan(model, ["q", "v", "o"], {"q": 3, "v": 5, "*": 2})
    lk.inject(model, plan, method=lk.LoRA(alpha=6, rslora=rslora))
    randomise(model, "default")
    expected = model(**inputs(model)).logits
    lk.save(model, tmp_path / "ours")
    theirs = peft.PeftModel.from_pretrained(build(family), tmp_path / "ours").eval()
    torch.testing.assert_close(theirs(**inputs(model)).logits, expected)

    again = build(family)
    lk.load(again, tmp_path / "ours")
    torch.testing.assert_close(again(**inputs(model)).logits, expected)
    assert {layer.path: layer.rank for layer in lk.inspect(again)[0].layers} == plan
    (tmp_path / "ours" / "lorakit.json").unlink()  # without the manifest they are whole layers
    whole = build(family)
    lk.load(whole, tmp_path / "ours")
    torch.testing.assert_close(whole(**inputs(model)).logits, expected)
    assert not any(":" in layer.path for layer in lk.inspect(whole)[0].layers)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda parts: next(iter(parts.values())).update(rank=99), "does not fit"),
        (lambda parts: next(iter(parts.values())).update(rank="many"), "does not fit"),
        (lambda parts: parts.update({"no.such:q": {"rank": 1, "alpha": 1}}), "does not fit"),
        (lambda parts: parts.update(q=7), "does not fit"),
        (lambda parts: next(iter(parts.values())).update(alpha=1600), "alpha differs"),
        (lambda parts: next(iter(parts.values())).update(alpha=0), "does not fit"),
        (lambda parts: next(iter(parts.values())).update(rank=1e999), "does not fit|Infinity"),
        (lambda parts: parts.pop(next(iter(parts))), "does not fit"),
    ],
)
def test_a_manifest_that_lies_about_parts_is_refused(change, message, tmp_path):
    model = build("gpt2")
    lk.inject(model, lk.plan(model, ["q", "v"], 2))
    randomise(model, "default")
    lk.save(model, tmp_path / "a")
    file = tmp_path / "a" / "lorakit.json"
    content = json.loads(file.read_text())
    change(content["adapter"]["packed"])
    file.write_text(json.dumps(content))
    again = build("gpt2")
    with pytest.raises(AdapterFileError, match=message):
        lk.load(again, tmp_path / "a")
    assert not lk.adapters(again)


@pytest.mark.parametrize(
    ("family", "targets", "message"),
    [
        ("gpt2", "c_attn:x", "Parts here: c_attn:k, c_attn:q"),
        ("llama", "q_proj:q", "No layer here has known parts"),
        ("gpt2", ["qkv", "q"], "is a part of"),
        ("gpt2", ["*.0.attn.c_attn", "c_attn:k"], "is a part of"),
    ],
)
def test_parts_that_cannot_be_planned(family, targets, message):
    with pytest.raises(PlanError, match=message):
        lk.plan(build(family), targets)


def test_an_unknown_part_is_not_injected():
    model = build("gpt2")
    with pytest.raises(PlanError, match="its parts are q, k, v"):
        lk.inject(model, {"transformer.h.0.attn.c_attn:gate": 2})
    with pytest.raises(PlanError, match="has no parts"):
        lk.inject(model, {"transformer.h.0.attn.c_proj:q": 2})
    assert not lk.adapters(model)


def test_parts_have_plans_costs_and_patterns():
    model = build("gpt2")
    plan = lk.plan(model, ["q", "v"], {"*.0.*": 4, "v": 2, "c_attn": 1})
    assert dict(plan) == {
        "transformer.h.0.attn.c_attn:q": 4,
        "transformer.h.0.attn.c_attn:v": 4,
        "transformer.h.1.attn.c_attn:q": 1,
        "transformer.h.1.attn.c_attn:v": 2,
    }
    report = lk.inject(model, plan)
    assert report.parameters == (4 + 4 + 1 + 2) * (32 + 32)


@pytest.mark.parametrize("what", [5, [5], "parts", {"a": [1]}])
def test_a_manifest_of_any_type_is_refused(what, tmp_path):
    model = build("gpt2")
    lk.inject(model, lk.plan(model, ["q"], 2))
    lk.save(model, tmp_path / "a")
    file = tmp_path / "a" / "lorakit.json"
    content = json.loads(file.read_text())
    content["adapter"]["packed"] = what
    file.write_text(json.dumps(content))
    with pytest.raises(AdapterFileError):
        lk.load(build("gpt2"), tmp_path / "a")


def test_scales_in_any_ratio_come_back_to_the_bit(tmp_path):
    model = build("gpt2")
    lk.inject(model, lk.plan(model, ["q", "v"], {"q": 8, "v": 6}), method=lk.LoRA(alpha=7))
    randomise(model, "default")
    lk.save(model, tmp_path / "a")
    again = build("gpt2")
    lk.load(again, tmp_path / "a")
    assert torch.equal(again(**inputs(model)).logits, model(**inputs(model)).logits)
    assert {p.dtype for n, p in again.named_parameters() if ".lora." in n} == {torch.float32}

    # Merged into the base, it is known again, by its folder with the manifest or without.
    lk.export_merged(model, tmp_path / "merged")
    merged = type(model).from_pretrained(tmp_path / "merged")
    for _ in range(2):
        with pytest.raises(lk.LorakitError, match="already merged"):
            lk.load(merged, tmp_path / "a", check_base=False)
        (tmp_path / "a" / "lorakit.json").unlink(missing_ok=True)
