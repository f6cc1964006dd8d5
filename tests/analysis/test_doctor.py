"""doctor: health, fit, and tools, as answers and not as tracebacks."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import lorakit as lk
from families import build, randomise
from lorakit.core.errors import AdapterFileError


def saved(folder, method=None, targets="attention", rank=8, family="llama", train=True):
    model = build(family)
    lk.inject(model, lk.plan(model, targets, rank), method=method)
    if train:
        randomise(model, "default")
    lk.save(model, folder)
    return folder


def test_a_healthy_adapter(tmp_path):
    found = lk.doctor(saved(tmp_path / "a"), build("llama"))
    assert found.healthy
    assert found.fits
    assert found.tools["vLLM"] == found.tools["llama.cpp"] == found.tools["PEFT"] == []
    assert "in no part of an image pipeline" in found.tools["diffusers"][0]
    assert "fits the base" in str(found)


def test_the_transformer_of_a_language_model_is_no_part_of_a_pipeline(tmp_path):
    found = lk.doctor(saved(tmp_path / "a", family="gpt2"))
    assert "in no part of an image pipeline" in found.tools["A1111, ComfyUI"][0]


@pytest.mark.parametrize(
    ("options", "tool", "reason"),
    [
        ({"method": lk.DoRA()}, "vLLM", "DoRA"),
        ({"method": lk.LoRA(extras=("model.norm",))}, "vLLM", "in full"),
        ({"targets": "embeddings"}, "llama.cpp", "embeddings"),
        ({"targets": "lm_head"}, "llama.cpp", "lm_head"),
        ({"method": lk.LoRA(rslora=True)}, "llama.cpp", "one alpha"),
        ({"rank": 3}, "vLLM", "--to vllm"),
        ({"rank": {"*.0.*": 8, "*": 16}}, "vLLM", "--to vllm"),
    ],
)
def test_what_speaks_against_a_tool(options, tool, reason, tmp_path):
    found = lk.doctor(saved(tmp_path / "a", **options))
    assert any(reason in text for text in found.tools[tool]), found.tools[tool]
    assert found.healthy
    assert found.fits is None


def test_what_is_wrong_is_an_answer(tmp_path):
    untrained = lk.doctor(saved(tmp_path / "a", train=False))
    assert "never trained" in untrained.problems[0]
    other = lk.doctor(tmp_path / "a", build("gpt2"))
    assert other.fits is False
    assert any("does not have" in text for text in other.problems)
    file = tmp_path / "a" / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-9])
    damaged = lk.doctor(tmp_path / "a")
    assert not damaged.healthy
    assert "damaged" in damaged.problems[0]
    with pytest.raises(AdapterFileError):
        lk.doctor(tmp_path / "nowhere")


def test_large_values_and_single_dead_modules_are_named(tmp_path):
    model = nn.ModuleDict({"a": nn.Linear(4, 4), "b": nn.Linear(4, 4)})
    lk.inject(model, {"a": 2, "b": 2})
    with torch.no_grad():
        model["a"].lora.a0.low_rank.B.fill_(1e6)
    lk.save(model, tmp_path / "x")
    problems = lk.doctor(tmp_path / "x").problems
    assert problems == ["1 modules change nothing: b", "values too large for float16 in a"]


@pytest.mark.parametrize("form", ["gguf", "torchtune", "litgpt"])
def test_formats_that_need_the_base_are_read_with_it(form, tmp_path):
    lk.convert(saved(tmp_path / "a"), tmp_path / "b", to=form, model=build("llama"))
    found = lk.doctor(tmp_path / "b", build("llama"))
    assert found.healthy
    assert found.format == form
    assert found.tools["llama.cpp"] == []
    alone = lk.doctor(tmp_path / "b")
    assert alone.healthy == (form == "gguf")
    assert form == "gguf" or "Pass the base model" in alone.problems[0]
