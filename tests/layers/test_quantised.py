"""Bases whose linear layers are kept in few bits."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import lorakit as lk
from families import build, inputs, quantise, quantised_layer, randomise
from lorakit.core.errors import MergeError, ModelError, UnsupportedError
from lorakit.layers import geometry_of, is_quantised
from lorakit.models.load import load_base
from test_laws import answer, assert_same, same_bits, snapshot, using

WAYS = ("nf4", "int8", "torchao-int8")
EACH = pytest.mark.parametrize("how", WAYS)


def in_full(how: str, family: str = "llama"):
    """The base of plain layers that have the quantised ones' dequantised weights."""
    packed, plain = build(family, quantised=how), build(family)
    for path, layer in packed.named_modules():
        if is_quantised(layer):
            matrix = geometry_of(layer).matrix(layer).detach()
            plain.get_submodule(path).weight.data = matrix.clone()
    return packed, plain


def adapt(model, targets):
    torch.manual_seed(0)
    lk.inject(model, lk.plan(model, targets, 3))
    randomise(model, "default")
    return model


@EACH
def test_merging_makes_the_dequantised_base_with_the_adapter_merged(how):
    packed, plain = in_full(how)
    for model in (packed, plain):
        adapt(model, "all-linear")
    expected = answer(plain)
    report = lk.merge(packed)
    assert report.dequantised == report.tensors == 14
    assert report.delta_error < 1e-6
    assert not any(is_quantised(module) for module in packed.modules())
    assert torch.allclose(answer(packed), expected, rtol=1e-5, atol=1e-5)
    lk.unmerge(packed)
    assert sum(is_quantised(module) for module in packed.modules()) == 14


@EACH
def test_requantising_is_asked_for_and_tells_its_error(how):
    packed, plain = in_full(how)
    for model in (packed, plain):
        adapt(model, ["q", "up"])
    before = snapshot(packed)
    report = lk.merge(packed, requantise=True)
    assert sum(is_quantised(module) for module in packed.modules()) == 14
    lk.merge(plain)
    gaps, sizes = [], []
    fresh = in_full(how)[1]
    for path in lk.plan(build("llama"), ["q", "up"], 3):
        layer = packed.get_submodule(path)
        exact = plain.get_submodule(path).weight.detach()
        gaps.append((geometry_of(layer).matrix(layer) - exact).square().sum())
        sizes.append((exact - fresh.get_submodule(path).weight.detach()).square().sum())
    error = float((sum(gaps) / sum(sizes)).sqrt())
    assert report.delta_error == pytest.approx(error, rel=1e-3)
    assert error > 1e-3
    lk.unmerge(packed)
    assert_same(before, snapshot(packed))


@EACH
def test_gradients_are_those_of_the_dequantised_base(how):
    packed, plain = in_full(how)
    found = []
    for model in (packed, plain):
        adapt(model, "all-linear").train()
        batch = inputs(model)
        model(**batch, labels=batch["input_ids"]).loss.backward()
        found.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    assert len(found[0]) == 28
    for name, expected in found[1].items():
        gap = (found[0][name] - expected).norm() / expected.norm()
        # bitsandbytes' int8 rounds inputs as well, and computes in float16.
        assert gap < (0.1 if how == "int8" else 1e-4), name


@EACH
def test_adapters_go_from_full_to_quantised_bases_and_back(how, tmp_path):
    full, packed = build("llama"), build("llama", quantised=how)
    for place, (source, target) in enumerate([(full, packed), (packed, full)]):
        folder = tmp_path / str(place)
        lk.inject(source, lk.plan(source, "all-linear", 3), name=f"own {place}")
        randomise(source, f"own {place}", scale=0.3)
        lk.save(source, folder, name=f"own {place}")
        lk.load(target, folder, name=f"from {place}")
        lk.activate(target)
        base = answer(target)
        effect = (using(target, f"from {place}") - base).abs().max()
        gap = (using(target, f"from {place}") - using(source, f"own {place}")).abs().max()
        assert gap < 0.5 * effect


def test_loading_on_another_quantised_base_is_refused(tmp_path):
    model = build("llama", quantised="nf4")
    lk.inject(model, lk.plan(model, "all-linear", 3))
    lk.save(model, tmp_path / "adapter")
    with pytest.raises(lk.LorakitError, match="another base"):
        lk.load(build("llama", quantised="nf4", seed=1), tmp_path / "adapter")


@EACH
def test_a_quantised_module_is_not_trained_in_full(how):
    model = build("llama", quantised=how)
    with pytest.raises(UnsupportedError, match="quantised"):
        lk.inject(model, lk.plan(model, "q", 2), method=lk.LoRA(extras=("*.0.mlp",)))


@EACH
def test_a_merge_refuses_what_a_plain_layer_could_not_stand_for(how):
    model = build("llama", quantised=how)
    lk.inject(model, lk.plan(model, "q", 2))
    handle = model.model.layers[1].self_attn.q_proj.register_forward_pre_hook(lambda *_: None)
    before = snapshot(model)
    with pytest.raises(MergeError, match="hooks of others"):
        lk.merge(model)
    assert_same(before, snapshot(model))
    handle.remove()
    alone = quantised_layer(nn.Linear(64, 64), how)
    lk.inject(nn.Sequential(alone), {"0": 2})
    with pytest.raises(lk.LorakitError):
        lk.inject(quantised_layer(nn.Linear(64, 64), how), {"": 2})


@EACH
def test_a_layer_that_hangs_in_two_places_is_exchanged_in_both(how):
    layer = quantised_layer(nn.Linear(64, 64), how)
    model = nn.Sequential(layer, nn.ReLU(), layer)
    lk.inject(model, {"0": 2})
    randomise(model, "default")
    x = torch.randn(3, 64, generator=torch.Generator().manual_seed(0))
    expected = model(x)
    with lk.merged(model):
        assert model[0] is model[2]
        assert not is_quantised(model[2])
        assert torch.allclose(model(x), expected, atol=2e-2 if how == "int8" else 1e-5)
    assert model[0] is model[2] is layer


def test_weights_of_an_unknown_kind_are_refused_by_type():
    class Other(torch.Tensor):
        pass

    layer = nn.Linear(4, 4)
    layer.weight = nn.Parameter(torch.randn(4, 4).as_subclass(Other), requires_grad=False)
    assert type(layer._parameters["weight"]) is not nn.Parameter
    with pytest.raises(UnsupportedError, match="no low-rank form"):
        lk.inject(nn.Sequential(layer), {"0": 2})


def test_inputs_rounded_by_torchao_are_refused_by_type():
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

    model = nn.Sequential(nn.Linear(64, 64))
    quantize_(model, Int8DynamicActivationInt8WeightConfig())
    with pytest.raises(UnsupportedError, match="no low-rank form"):
        lk.inject(model, {"0": 2})


def test_four_bits_keep_their_weight_in_evaluation():
    """bitsandbytes packs them for inference on some CPUs: rounded, and without a gradient."""
    model = build("llama")
    quantise(model, "nf4")
    for layer in model.modules():
        if is_quantised(layer):
            layer.support_avx512bf16_for_cpu = True  # as bitsandbytes finds it on such a CPU
    lk.inject(model, lk.plan(model, "all-linear", 2))
    before = snapshot(model)
    answer(model)
    assert_same(before, snapshot(model))
    packed = nn.Sequential(quantised_layer(nn.Linear(64, 64), "nf4"))
    packed[0].weight.quant_state.packing_format_for_cpu = True
    with pytest.raises(UnsupportedError, match="no gradient"):
        lk.inject(packed, {"0": 2})


def test_a_packed_weight_is_read_by_what_its_layer_gives():
    from bitsandbytes.functional import has_avx512bf16

    if not has_avx512bf16():
        pytest.skip("bitsandbytes packs weights only on CPUs that multiply bfloat16")
    layer = quantised_layer(nn.Linear(64, 64), "nf4").eval()
    exact = geometry_of(layer).matrix(layer)
    layer.support_avx512bf16_for_cpu = True
    with torch.no_grad():
        layer(torch.randn(2, 64))
    assert layer.weight.quant_state.packing_format_for_cpu
    found = geometry_of(layer).matrix(layer).float()
    assert (found - exact).abs().max() < 0.02 * exact.abs().max()


@EACH
def test_load_base_quantises_all_but_the_heads(how, tmp_path):
    torch.manual_seed(0)
    build("bert").save_pretrained(tmp_path)
    base = load_base(str(tmp_path), "classes", labels=["a", "b"], quantise=how)
    assert is_quantised(base.model.bert.encoder.layer[0].attention.self.query)
    assert not is_quantised(base.model.classifier)
    assert "classifier" in base.fresh


def test_load_base_says_what_is_missing(tmp_path, monkeypatch):
    build("llama").save_pretrained(tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"pip install 'lorakit\[quant\]'"):
        load_base(str(tmp_path), "causal", quantise="nf4")


@EACH
def test_an_export_is_a_plain_model_of_the_dequantised_weights(how, tmp_path):
    build("llama").save_pretrained(tmp_path / "base")
    model = load_base(str(tmp_path / "base"), "causal", quantise=how).model
    lk.inject(model, lk.plan(model, ["q", "v"], 3))
    randomise(model, "default")
    before = snapshot(model)
    lk.export_merged(model, tmp_path / "merged")
    assert_same(before, snapshot(model))
    plain = load_base(str(tmp_path / "merged"), "causal").model.eval()
    assert not hasattr(plain.config, "quantization_config")
    untouched = model.model.layers[0].mlp.up_proj
    expected = geometry_of(untouched).matrix(untouched).detach()
    assert same_bits(plain.model.layers[0].mlp.up_proj.weight, expected.float())
    with lk.merged(model):
        merged = model.model.layers[1].self_attn.q_proj.weight
        assert same_bits(plain.model.layers[1].self_attn.q_proj.weight, merged)


@EACH
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_peft_answers_the_same_on_the_same_quantised_base(how, tmp_path):
    peft = pytest.importorskip("peft")
    build("llama").save_pretrained(tmp_path / "base")

    def base():
        return load_base(str(tmp_path / "base"), "causal", quantise=how).model.eval()

    mine = adapt(base(), ["q", "v", "up"])
    lk.save(mine, tmp_path / "adapter")
    theirs = peft.PeftModel.from_pretrained(base(), str(tmp_path / "adapter"))
    for layer in theirs.modules():
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False
    found, expected = answer(theirs.base_model.model), answer(mine)
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("how", ["nf4", "int8"])
@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("on_disk", [False, True])
def test_every_quantised_base_is_exported(how, family, on_disk, tmp_path):
    """GPT-2's layers are the other way round in full; a base may be quantised on disk already."""
    build(family).save_pretrained(tmp_path / "base")
    model = load_base(str(tmp_path / "base"), "causal", quantise=how).model.eval()
    if on_disk:
        model.save_pretrained(tmp_path / "packed")
        model = load_base(str(tmp_path / "packed"), "causal").model.eval()
    lk.inject(model, lk.plan(model, ["mlp"], 3))
    randomise(model, "default")
    lk.export_merged(model, tmp_path / "merged")
    plain = load_base(str(tmp_path / "merged"), "causal").model.eval()
    gap = (answer(plain) - answer(model)).abs().max()
    assert gap < (0.03 if how == "int8" else 1e-5)


def test_an_export_beside_quantised_layers_is_not_refused(tmp_path):
    build("llama").save_pretrained(tmp_path / "base")
    model = load_base(str(tmp_path / "base"), "causal", quantise="int8").model.eval()
    lk.inject(model, {"lm_head": 2})
    randomise(model, "default")
    lk.export_merged(model, tmp_path / "merged")


def test_a_way_that_quantises_nothing_is_an_error(tmp_path):
    build("gpt2").save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="no layer"):
        load_base(str(tmp_path), "causal", quantise="torchao-int8")


@EACH
def test_modes_follow_an_unmerge_and_hooks_are_not_lost(how):
    model = adapt(build("llama", quantised=how), "q")
    lk.merge(model)
    model.train()
    handle = model.model.layers[0].self_attn.q_proj.register_forward_hook(lambda *_: None)
    with pytest.raises(MergeError, match="since the merge"):
        lk.unmerge(model)
    handle.remove()
    lk.unmerge(model)
    assert all(module.training for module in model.modules())


@EACH
def test_a_model_of_nothing_but_quantised_layers_keeps_its_dtype(how):
    layer = quantised_layer(nn.Linear(64, 64, bias=False).to(torch.bfloat16), how)
    model = nn.Sequential(layer)
    lk.inject(model, {"0": 2})
    x = torch.randn(2, 64).to(torch.bfloat16)
    expected = model(x)
    lk.merge(model)
    if how == "nf4":  # the others do not know what they were made from
        assert torch.allclose(model(x), expected, atol=0.05)


def test_a_refused_adapter_leaves_bitsandbytes_settings_as_they_were(monkeypatch):
    packed = build("llama", quantised="nf4")
    layer = packed.model.layers[0].self_attn.q_proj
    layer.support_avx512bf16_for_cpu = True  # as bitsandbytes itself sets it on such a CPU

    def refused(*given, **named):
        assert not layer.support_avx512bf16_for_cpu
        raise lk.LorakitError("no")

    monkeypatch.setattr("lorakit.methods.inject.attach", refused)
    with pytest.raises(lk.LorakitError, match="no"):
        lk.inject(packed, lk.plan(packed, "q", 2))
    assert layer.support_avx512bf16_for_cpu
