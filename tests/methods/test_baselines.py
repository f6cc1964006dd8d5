"""The methods that LoRA is compared with keep the laws, on every family that they know."""

from __future__ import annotations

import copy
import json
import pickle

import pytest
import torch

import lorakit as lk
from families import build, inputs, randomise
from lorakit.core.errors import MergeError, PlanError, RoutingError, UnsupportedError
from lorakit.methods import BASELINES
from lorakit.methods.method import Baseline
from test_laws import assert_same, rounding, same_bits, snapshot

METHODS = {kind.name: kind for kind in BASELINES}
FAMILIES = ("bert", "gpt2", "llama-tied", "gemma2", "t5")
# What a method cannot do on a family, refused by type or by the words of its plan.
CANNOT = {
    ("prefix", "t5"), ("prompt", "t5"),
    ("bitfit", "llama-tied"), ("bitfit", "gemma2"), ("bitfit", "t5"),
}  # fmt: skip
UNMERGED = ("houlsby", "pfeiffer", "parallel", "prefix", "prompt")
NOISE = {
    "full": 0.05,
    "top": 0.3,
    "bitfit": 0.3,
    "houlsby": 0.3,
    "ia3": 16.0,
}  # what bfloat16 still tells apart
PROMISED = [name for name in METHODS if name not in ("prefix", "prompt")]
CELLS = [(name, family) for name in METHODS for family in FAMILIES if (name, family) not in CANNOT]
EACH = pytest.mark.parametrize(("name", "family"), CELLS, ids=lambda value: value)


def planned(model, name: str, size: int = 2) -> tuple[lk.Plan, Baseline]:
    words, number = METHODS[name].words(size)
    return lk.plan(model, words, number), METHODS[name]()


def adapted(
    name: str, family: str, *, label: str = "one", seed: int = 0, scale: float = 0.05, **given
):
    model = build(family, **given)
    put(model, name, label, seed=seed, scale=scale)
    return model


def put(model, name: str, label: str, *, seed: int = 0, scale: float = 0.05) -> None:
    torch.manual_seed(seed)
    plan, method = planned(model, name)
    lk.inject(model, plan, name=label, method=method)
    randomise(model, label, seed=seed, scale=scale)


def answer(model, rows: int = 2) -> torch.Tensor:
    with torch.no_grad():
        return model(**inputs(model, rows=rows)).logits


@EACH
def test_a_fresh_adapter_changes_nothing_where_that_is_promised(name, family):
    model = build(family)
    before, base = snapshot(model), answer(model)
    plan, method = planned(model, name)
    lk.inject(model, plan, method=method)
    if name in PROMISED:
        assert same_bits(answer(model), base)
    else:
        assert not same_bits(answer(model), base)
    lk.remove(model, "default")
    assert_same(before, snapshot(model))
    assert same_bits(answer(model), base)


@EACH
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_what_is_merged_answers_alike_and_comes_off_again(name, family, dtype):
    model = build(family, dtype=dtype)
    base = answer(model)
    put(model, name, "one", scale=0.05 if dtype == torch.float32 else NOISE.get(name, 1.0))
    tuned, before = answer(model), snapshot(model)
    if name in UNMERGED:
        with pytest.raises(UnsupportedError, match="cannot be merged"):
            lk.merge(model)
        assert_same(before, snapshot(model))
        return
    assert (tuned - base).abs().max() > 2 * rounding(dtype, tuned), "too weak to prove anything"
    for _ in range(2):
        with lk.merged(model):
            assert (answer(model) - tuned).abs().max() <= rounding(dtype, tuned)
        assert_same(before, snapshot(model))
        before = snapshot(model)
    lk.remove(model, "one")
    assert same_bits(answer(model), base)


@EACH
def test_saved_and_loaded_it_answers_with_the_same_bits(name, family, tmp_path):
    model = adapted(name, family)
    lk.save(model, tmp_path / "a")
    other = build(family)
    lk.load(other, tmp_path / "a")
    assert same_bits(answer(other), answer(model))
    lk.save(other, tmp_path / "b")
    files = [(tmp_path / x / "adapter_model.safetensors").read_bytes() for x in "ab"]
    assert files[0] == files[1]
    assert lk.inspect(tmp_path / "a").method == name


@EACH
def test_rows_of_a_mixed_batch_get_their_own(name, family):
    model = build(family)
    base = answer(model, rows=4)
    put(model, name, "one", seed=1)
    put(model, name, "two", seed=2)
    alone = {None: base}
    for label in ("one", "two"):
        with lk.use(model, label):
            alone[label] = answer(model, rows=4)
    rows = ["one", None, "two", "one"]
    if name == "prompt":
        with lk.use(model, per_sample=rows), pytest.raises(UnsupportedError, match="longer"):
            answer(model, rows=4)
        return
    if (name == "full" and family in ("bert", "gpt2", "t5")) or (name, family) == ("top", "t5"):
        with (
            lk.use(model, per_sample=rows),
            pytest.raises(RoutingError, match=r"position|bias|wpe"),
        ):
            answer(model, rows=4)  # one row of positions serves all samples
        return
    with lk.use(model, per_sample=rows):
        mixed = answer(model, rows=4)
    for place, label in enumerate(rows):
        gap = (mixed[place] - alone[label][place]).abs().max()
        assert gap <= rounding(torch.float32, base), f"row {place}"


@EACH
def test_every_parameter_learns_and_the_base_does_not(name, family):
    model = adapted(name, family)
    base = {key: p for key, p in model.named_parameters() if ".lora." not in key}
    loss = model(**inputs(model)).logits.square().mean()
    loss.backward()
    assert all(p.grad is None for p in base.values())
    trained = [p for key, p in model.named_parameters() if ".lora." in key]
    assert trained
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in trained)


@EACH
def test_copies_and_pickles_answer_alike(name, family):
    model = adapted(name, family)
    expected = answer(model)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert same_bits(answer(other), expected)
        randomise(other, "one", seed=9)
        assert not same_bits(answer(other), expected)
    assert same_bits(answer(model), expected)


@pytest.mark.parametrize("family", ["gpt2", "llama-tied", "gemma2"])
@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_cache_changes_no_token(name, family):
    if (name, family) in CANNOT:
        pytest.skip("refused")
    model = adapted(name, family, scale=0.2)
    batch = inputs(model, rows=3)
    batch["attention_mask"][0, :3] = 0  # padded on the left, as texts to go on with are
    given = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    with torch.no_grad():
        kept = model.generate(**batch, use_cache=True, output_logits=True,
                              return_dict_in_generate=True, **given)  # fmt: skip
        again = model.generate(**batch, use_cache=False, output_logits=True,
                               return_dict_in_generate=True, **given)  # fmt: skip
    assert torch.equal(kept.sequences, again.sequences)
    for one, two in zip(kept.logits, again.logits, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "family"), sorted(CANNOT))
def test_what_cannot_work_is_refused_without_a_trace(name, family):
    model = build(family)
    before = snapshot(model)
    with pytest.raises((UnsupportedError, PlanError)):
        put(model, name, "one")
    assert_same(before, snapshot(model))


def test_a_prefix_is_the_text_before_it():
    """Keys and values of real tokens, taken as the prefix, act as these tokens do (equation 3)."""
    model = build("gpt2")
    ids = inputs(model, length=9)["input_ids"]
    with torch.no_grad():
        whole = model(ids).logits[:, 4:]
        cache = model(ids[:1, :4], use_cache=True).past_key_values
    plan = lk.plan(model, "attentions", 4)
    lk.inject(model, plan, method=lk.PrefixTuning())
    for number, path in enumerate(plan):
        prefix = model.get_submodule(path).lora.updates("a0")["prefix"]
        for own, theirs in (
            (prefix.keys, cache.layers[number].keys),
            (prefix.values, cache.layers[number].values),
        ):
            own.data = theirs[0].transpose(0, 1).reshape(4, -1).clone()
    with torch.no_grad():
        places = torch.arange(4, 9)[None]
        got = model(ids[:, 4:], position_ids=places).logits
    torch.testing.assert_close(got[0], whole[0], rtol=1e-4, atol=1e-5)


def test_a_prompt_of_real_tokens_is_these_tokens():
    model = build("llama-tied")
    ids = inputs(model, length=9)["input_ids"]
    with torch.no_grad():
        whole = model(torch.cat([ids[:1, :3].expand(2, -1), ids[:, 3:]], 1)).logits[:, 3:]
    lk.inject(model, lk.plan(model, "trunk", 3), method=lk.PromptTuning())
    prompt = model.model.lora.updates("a0")["prompt"]
    prompt.vectors.data = model.model.embed_tokens.weight[ids[0, :3]].detach().clone()
    with torch.no_grad():
        got = model(ids[:, 3:], attention_mask=torch.ones(2, 6, dtype=torch.long)).logits
    torch.testing.assert_close(got, whole, rtol=1e-4, atol=1e-5)


def test_a_prompt_stands_behind_the_first_token_of_an_encoder():
    model = build("bert", head="classes")
    ids = inputs(model, length=8)["input_ids"]
    with torch.no_grad():
        whole = model(ids).logits
    lk.inject(model, lk.plan(model, "trunk", 2), method=lk.PromptTuning())
    prompt = model.bert.lora.updates("a0")["prompt"]
    table = model.bert.embeddings.word_embeddings.weight
    for row in range(2):
        prompt.vectors.data = table[ids[row, 1:3]].detach().clone()
        with torch.no_grad():
            got = model(torch.cat([ids[:, :1], ids[:, 3:]], 1)).logits[row]
        torch.testing.assert_close(got, whole[row], rtol=1e-4, atol=1e-5)


def test_full_fine_tuning_is_that_of_the_plain_model():
    """The same losses and weights as AdamW on the model itself, tied weights included."""
    plain, model = build("llama-tied"), build("llama-tied")
    plan, method = planned(model, "full")
    lk.inject(model, plan, method=method)
    batch = inputs(model)
    losses = []
    for one in (plain, model):
        trained = [p for p in one.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=1e-2)
        own = []
        for _ in range(4):
            loss = one(**batch, labels=batch["input_ids"]).loss
            own.append(loss.item())
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        losses.append(own)
    assert losses[0] == losses[1]
    assert losses[0][-1] < losses[0][0]
    counts = [sum(p.numel() for p in m.parameters() if p.requires_grad) for m in (plain, model)]
    assert counts[0] == counts[1]


def test_the_module_that_a_copy_answers_for_does_not_run():
    model = adapted("full", "gpt2")
    calls = []
    layer = model.transformer.h[0].mlp.c_fc
    original = type(layer).forward

    class Counted(type(layer)):
        def forward(self, x):
            calls.append(self is layer)
            return original(self, x)

    layer.__class__ = Counted
    answer(model)
    assert calls == []
    with lk.use(model):
        answer(model)
    assert calls == [True]


def test_a_hook_of_others_still_sees_what_the_layer_gave():
    model = adapted("full", "gpt2")
    seen = []
    handle = model.transformer.h[0].mlp.c_fc.register_forward_hook(
        lambda *given: seen.append(given[2])
    )
    answer(model)
    handle.remove()
    assert isinstance(seen[0], torch.Tensor)


@pytest.mark.parametrize("name", ["houlsby", "parallel"])
def test_options_come_back_from_a_folder(name, tmp_path):
    kind = METHODS[name]
    model = build("gpt2")
    words, size = kind.words(3)
    lk.inject(model, lk.plan(model, words, size), method=kind(activation="tanh"))
    lk.save(model, tmp_path / "a")
    other = build("gpt2")
    lk.load(other, tmp_path / "a")
    from lorakit.core.registry import require_registry

    assert require_registry(other).entry("default").method.activation == "tanh"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"method": "houlsbey"}, "not known"),
        ({"options": {"activation": "sine"}}, "activation"),
        ({"options": {"width": 3}}, "cannot have the options"),
        ({"extra": 1}, "extra"),
        ({"task_type": 3}, "task_type"),
    ],
)
def test_a_damaged_config_is_refused(change, said, tmp_path):
    import json

    model = adapted("houlsby", "gpt2")
    lk.save(model, tmp_path / "a")
    (tmp_path / "a" / "lorakit.json").unlink()
    config = tmp_path / "a" / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **change}))
    other = build("gpt2")
    before = snapshot(other)
    with pytest.raises(lk.LorakitError, match=said):
        lk.load(other, tmp_path / "a")
    assert_same(before, snapshot(other))


def test_another_base_is_refused(tmp_path):
    model = adapted("prefix", "gpt2")
    lk.save(model, tmp_path / "a")
    other = build("llama-tied")
    with pytest.raises(lk.LorakitError):
        lk.load(other, tmp_path / "a", check_base=False)


def test_blocks_at_the_top_are_counted_from_the_end():
    model = build("bert")
    one = lk.plan(model, "top-1", 1)
    assert {path.split(".")[3] for path in one} == {"1"}
    assert lk.plan(model, "top-2", 1).keys() > one.keys()
    with pytest.raises(PlanError, match="2"):
        lk.plan(model, "top-3", 1)


def test_merge_of_two_adds_where_that_has_a_meaning():
    model = build("gpt2")
    put(model, "ia3", "one", seed=1)
    with lk.use(model, "one"), pytest.raises(MergeError):
        lk.merge(model, "one")


def test_norm_tuning_trains_norms_alone():
    model = build("bert")
    before = snapshot(model)
    plan = lk.plan(model, ["q", "norms"], 1)
    with pytest.raises(PlanError, match="is no norm"):
        lk.inject(model, plan, name="one", method=METHODS["norms"]())
    assert_same(snapshot(model), before)
    lk.inject(model, lk.plan(model, "*.layer.0.*LayerNorm", 1), method=METHODS["norms"]())


def test_a_tied_table_is_counted_once(tmp_path):
    model = build("llama-tied")
    count = sum(value.numel() for value in model.parameters())
    put(model, "full", "one")
    lk.save(model, tmp_path / "a")
    told = json.loads((tmp_path / "a" / "lorakit.json").read_text())
    assert told["adapter"]["parameters"] == count
    other = build("llama-tied")
    lk.load(other, tmp_path / "a", name="one")
    with lk.use(model, "one"), lk.use(other, "one"):
        assert torch.equal(answer(model), answer(other))


def test_scales_beside_others_are_merged_as_they_act():
    model = build("gpt2")
    plan = lk.plan(model, ["k", "v"], 1)
    for name, seed in (("one", 1), ("two", 2)):
        lk.inject(model, plan, name=name, method=METHODS["ia3"]())
        randomise(model, name, seed=seed, scale=0.3)
    lk.inject(model, lk.plan(model, ["v"], 2), name="low")
    randomise(model, "low", seed=3, scale=0.3)
    for names in (("one", "two"), ("low", "one"), ("two", "low", "one")):
        with lk.use(model, *names):
            expected = answer(model)
        with lk.merged(model, *names):
            torch.testing.assert_close(answer(model), expected, rtol=1e-4, atol=1e-4)
