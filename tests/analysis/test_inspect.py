from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file

import lorakit as lk
from families import build, randomise
from lorakit.analysis.cost import cost


def test_a_folder_and_a_model_say_the_same(tmp_path):
    model = build("gpt2")
    plan = lk.plan(model, ["qkv", "down"], {"*.h.0.*": 2, "*": 3})
    lk.inject(model, plan, name="x", method=lk.LoRA(alpha=6, rslora=True, bias="lora_only"))
    randomise(model, "x")
    lk.save(model, tmp_path / "x")
    folder, (live,) = lk.inspect(tmp_path / "x"), lk.inspect(model)
    assert {layer.path: layer.rank for layer in folder.layers} == dict(plan)
    assert sorted(folder.layers, key=str) == sorted(live.layers, key=str)
    assert folder.parameters == live.parameters
    assert "rank 2 to 3" in str(folder)
    assert json.loads(json.dumps(folder.as_dict()))["rslora"] is True
    assert folder.table().splitlines()[0].split()[0] == "layer"


def test_the_norm_of_a_delta_is_that_of_the_matrix():
    model = build("llama")
    lk.inject(model, lk.plan(model, "down", 3), name="x", method=lk.LoRA(alpha=5))
    randomise(model, "x")
    (found,) = lk.inspect(model)
    for layer in found.layers:
        update = model.get_submodule(layer.path).lora.a0.low_rank
        delta = update.scale * (update.B @ update.A)
        assert layer.norm == pytest.approx(float(delta.detach().norm()), rel=1e-5)
        assert (layer.rows, layer.columns) == tuple(delta.shape)


@pytest.mark.parametrize("family", ["llama", "gpt2", "bert"])
def test_the_cost_of_a_plan_is_what_injection_makes(family):
    model = build(family, head="classes")
    head = "classifier" if family == "bert" else "score"
    plan = lk.plan(model, ["attention", "embeddings"], 3)
    expected = cost(model, plan, extras=[head])
    report = lk.inject(model, plan, method=lk.LoRA(extras=(head,)))
    assert expected.parameters == report.parameters
    assert expected.adapter_bytes == report.bytes
    assert expected.base_parameters == report.base_parameters


def test_cost_needs_no_weights():
    with torch.device("meta"):
        model = build("llama")
    found = cost(model, lk.plan(model, "q", 4))
    assert found.parameters == 2 * 4 * (32 + 32)
    assert "on disk" in str(found)


def test_a_kohya_file_tells_its_format_and_its_training(tmp_path):
    key = "lora_unet_mid_block_attentions_0_proj_in"
    tensors = {
        f"{key}.lora_down.weight": torch.randn(2, 4), f"{key}.lora_up.weight": torch.randn(5, 2),
        f"{key.replace('in', 'out')}.lora_down.weight": torch.randn(2, 4),
        f"{key.replace('in', 'out')}.lora_up.weight": torch.zeros(5, 2),
    }  # fmt: skip
    facts = {"modelspec.trigger_phrase": "sks axe", "ss_steps": "400", "ss_datasets": "x" * 500}
    save_file(tensors, tmp_path / "style.safetensors", metadata=facts)
    found = lk.inspect(tmp_path / "style.safetensors")
    assert found.format == "kohya"
    assert found.dead == ["unet.mid_block.attentions.0.proj_out"]
    assert found.told == {"modelspec.trigger_phrase": "sks axe", "ss_steps": "400"}
    assert "(kohya)" in str(found)
    assert "sks axe" in str(found)
