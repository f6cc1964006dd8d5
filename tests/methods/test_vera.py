"""VeRA: its formula, what layers share, and PEFT's folders both ways."""

from __future__ import annotations

import json

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import lorakit as lk
from families import build, inputs, randomise
from lorakit.core.errors import AdapterFileError, LorakitError, PlanError, UnsupportedError
from test_laws import answer

pytestmark = pytest.mark.filterwarnings("ignore")  # PEFT warns of what it deprecates


def adapted(family: str = "llama", targets=("q", "v", "up"), **options):
    torch.manual_seed(0)
    model = build(family)
    lk.inject(model, lk.plan(model, list(targets), 6), method=lk.VeRA(**options))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith((".d", ".b")) and ".lora." in name:
                parameter += torch.randn(parameter.shape) * 0.5
    return model


def test_vera_is_the_formula_of_its_paper():
    torch.manual_seed(0)
    layer, x = nn.Linear(6, 5), torch.randn(4, 6)
    model = nn.Sequential(layer)
    base = layer(x)
    lk.inject(model, {"0": 3}, method=lk.VeRA(start_d=0.2))
    update = layer.lora.a0.low_rank
    assert torch.equal(model(x), base)
    assert (update.d == 0.2).all()
    randomise(model, "default", scale=0.5)
    change = torch.diag(update.b) @ update.B @ torch.diag(update.d) @ update.A
    torch.testing.assert_close(model(x), base + x @ change.T)
    trained = {name.rpartition(".")[2] for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {"d", "b"}


def test_layers_share_the_memory_of_one_pair():
    model = build("llama")
    report = lk.inject(model, lk.plan(model, "all-linear", 6), method=lk.VeRA())
    updates = [m for m in model.modules() if hasattr(m, "d") and hasattr(m, "A")]
    assert len(updates) == 14
    assert len({u.A.untyped_storage().data_ptr() for u in updates}) == 1
    assert len({u.B.untyped_storage().data_ptr() for u in updates}) == 1
    widest, tallest = max(u.A.shape[1] for u in updates), max(len(u.B) for u in updates)
    own = sum(u.d.numel() + u.b.numel() for u in updates)
    assert report.parameters == 6 * (widest + tallest) + own
    from lorakit.core.state import capture

    lows = capture(model, "default").low_rank.values()
    assert len({low.A.untyped_storage().data_ptr() for low in lows}) == 1
    assert lk.inspect(model)[0].parameters == own


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("bias", ["none", "lora_only"])
def test_vera_goes_to_peft_and_back(family, bias, tmp_path):
    targets = ("qkv", "up") if family == "gpt2" else ("q", "v", "up")
    model = adapted(family, targets, bias=bias if family == "gpt2" else "none")
    expected = answer(model)
    lk.save(model, tmp_path / "ours")
    theirs = peft.PeftModel.from_pretrained(build(family), tmp_path / "ours").eval()
    torch.testing.assert_close(answer(theirs.base_model.model), expected, rtol=1e-5, atol=1e-6)
    theirs.save_pretrained(tmp_path / "theirs")
    again = build(family)
    lk.load(again, tmp_path / "theirs")
    torch.testing.assert_close(answer(again), expected, rtol=0, atol=0)
    assert lk.inspect(again)[0].method == "vera"


def test_what_peft_trained_loads(tmp_path):
    config = peft.VeraConfig(r=5, target_modules=["q_proj", "o_proj"], projection_prng_key=7)
    theirs = peft.get_peft_model(build("llama"), config)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if "vera_lambda" in name:
                parameter += torch.randn(parameter.shape) * 0.3
    expected = answer(theirs.eval().base_model.model)
    theirs.save_pretrained(tmp_path / "a")
    model = build("llama")
    lk.load(model, tmp_path / "a")
    torch.testing.assert_close(answer(model), expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(AdapterFileError, match="Pass the base"):
        lk.inspect(tmp_path / "a")


def test_ours_is_read_without_the_base_and_becomes_plain_lora(tmp_path):
    model = adapted()
    expected = answer(model)
    lk.save(model, tmp_path / "a")
    about = lk.inspect(tmp_path / "a")
    assert about.method == "vera"
    assert about.parameters == lk.inspect(model)[0].parameters
    norms = {layer.path: layer.norm for layer in lk.inspect(model)[0].layers}
    assert {layer.path: layer.norm for layer in about.layers} == pytest.approx(norms)
    lk.convert(tmp_path / "a", tmp_path / "plain")
    lk.combine([tmp_path / "a"], out=tmp_path / "combined")
    for folder in ("plain", "combined"):
        other = build("llama")
        lk.load(other, tmp_path / folder)
        assert torch.equal(answer(other), expected)
        assert lk.inspect(other)[0].method == "lora"
    assert lk.diff(tmp_path / "a", tmp_path / "plain").same


def test_training_goes_on(tmp_path):
    model = adapted()
    lk.save(model, tmp_path / "a")
    again = build("llama")
    lk.load(again, tmp_path / "a", trainable=True)
    batch = inputs(again)
    again(**batch, labels=batch["input_ids"]).loss.backward()
    grads = [n for n, p in again.named_parameters() if p.grad is not None]
    assert grads
    assert all(name.endswith((".d", ".b")) for name in grads)


def test_what_vera_cannot_do_is_refused():
    model = build("gpt2")
    with pytest.raises(PlanError, match="one rank"):
        lk.inject(model, lk.plan(model, "all-linear", {"qkv": 2, "*": 3}), method=lk.VeRA())
    for target in ("embeddings", "q"):
        with pytest.raises(UnsupportedError, match="matrix products"):
            lk.inject(model, lk.plan(model, target, 2), method=lk.VeRA())
    some = {"*": 3.0}
    for wrong in (
        {"alpha": 8}, {"rslora": True}, {"init": "pissa"}, {"alpha": some, "rslora": True},
        {"alpha": some, "init": "pissa"},
    ):  # fmt: skip
        with pytest.raises(PlanError, match="no scale"):
            lk.VeRA(**wrong)
    for wrong in (float("nan"), "x", None):
        with pytest.raises(PlanError, match="start_d"):
            lk.VeRA(start_d=wrong)
    for rank in ("4", [4]):
        with pytest.raises(PlanError, match="rank"):
            lk.inject(model, {"transformer.h.0.mlp.c_fc": rank}, method=lk.VeRA())
    assert lk.adapters(model) == ()


def test_damaged_folders_are_refused(tmp_path):
    lk.save(adapted(), tmp_path / "a")
    (tmp_path / "a" / "lorakit.json").unlink()
    file = tmp_path / "a" / "adapter_model.safetensors"
    good, config = load_file(file), json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    some = next(key for key in good if key.endswith("vera_lambda_d"))
    changes = {
        "no shared A": ({k: v for k, v in good.items() if k != "base_model.vera_A"}, config),
        "no d": ({k: v for k, v in good.items() if k != some}, config),
        "a longer d": ({**good, some: torch.ones(7)}, config),
        "d a matrix": ({**good, some: torch.ones(6, 1)}, config),
        "narrow A": ({**good, "base_model.vera_A": torch.ones(6, 5)}, config),
        "flat A": ({**good, "base_model.vera_A": torch.ones(6)}, config),
        "another rank": (good, {**config, "r": 5}),
        "an unknown key": (good, {**config, "use_magic": True}),
        "a surplus tensor": ({**good, "base_model.model.x.y": torch.ones(2)}, config),
        "no such layer": (
            {k.replace("layers.0.self_attn.q", "layers.0.self_attn.x"): v for k, v in good.items()},
            config,
        ),
    }
    model = build("llama")
    for what, (tensors, told) in changes.items():
        save_file(tensors, file)
        (tmp_path / "a" / "adapter_config.json").write_text(json.dumps(told))
        with pytest.raises(LorakitError) as caught:
            lk.load(model, tmp_path / "a")
        assert len(str(caught.value)) > 40, what
    assert lk.adapters(model) == ()


def test_norms_have_no_rank_to_agree_on():
    model = build("llama")
    plan = lk.plan(model, ["norms", "q"], 4)
    lk.inject(model, plan, method=lk.VeRA())
    assert lk.inspect(model)[0].extras


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_loaded_layers_share_memory_and_bits(dtype, tmp_path):
    model = adapted(dtype=dtype)
    expected = answer(model)
    lk.save(model, tmp_path / "a")
    again = build("llama")
    lk.load(again, tmp_path / "a")
    assert torch.equal(answer(again), expected)
    updates = [m for m in again.modules() if hasattr(m, "d") and hasattr(m, "A")]
    assert len({u.A.untyped_storage().data_ptr() for u in updates}) == 1
    assert len({u.B.untyped_storage().data_ptr() for u in updates}) == 1
