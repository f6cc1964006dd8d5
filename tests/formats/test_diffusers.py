"""A tiny Stable Diffusion: what diffusers reads of ours, and we of its files, is the same."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

import lorakit as lk
from families import randomise

pytestmark = pytest.mark.filterwarnings("ignore")  # diffusers and PEFT warn where they convert
diffusers = pytest.importorskip("diffusers")
peft = pytest.importorskip("peft")
TARGETS = ["*.to_q", "*.to_v", "*.to_out.0", "*.ff.net.0.proj", "*.proj_in"]
CONVOLUTIONS = ["*.resnets.*.conv1", "*.downsamplers.*.conv"]


def unet():
    torch.manual_seed(0)
    return diffusers.UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, layers_per_block=1,
        block_out_channels=(32, 64), cross_attention_dim=32, attention_head_dim=8,
        norm_num_groups=8, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    ).eval()  # fmt: skip


def clip():
    torch.manual_seed(0)
    config = CLIPTextConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=16, bos_token_id=0, eos_token_id=2,
    )  # fmt: skip
    return CLIPTextModel(config).eval()


def picture(model) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(2, 4, 8, 8, generator=generator)
    words = torch.randn(2, 5, 32, generator=generator)
    with torch.no_grad():
        return model(noise, torch.tensor([3, 7]), words).sample


def states(model) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.tensor([[5, 9, 2, 2]])).last_hidden_state


def adapted(clip_targets=("*.q_proj", "*.fc1"), **options) -> nn.ModuleDict:
    """Both parts of a pipeline, with updates of several ranks, alpha different from all of them."""
    both = nn.ModuleDict({"unet": unet(), "text_encoder": clip()})
    targets = [*TARGETS, *CONVOLUTIONS, *clip_targets]
    plan = lk.plan(both, targets, {"*.to_q": 2, "*.fc1": 3, "*": 4})
    lk.inject(both, plan, method=lk.LoRA(alpha=6, **options))
    randomise(both, "default", scale=0.2)
    return both


@pytest.mark.parametrize("form", ["diffusers", "kohya"])
@pytest.mark.parametrize("rslora", [False, True])
def test_diffusers_reads_what_we_write(form, rslora, tmp_path):
    # With transformers 5 diffusers 0.42 drops CLIP's attention from kohya's files (it says so).
    both = adapted(("*.fc1",) if form == "kohya" else ("*.q_proj", "*.fc1"), rslora=rslora)
    expected = picture(both["unet"]), states(both["text_encoder"])
    lk.save(both, tmp_path / "ours", format=form)

    mixin = diffusers.loaders.StableDiffusionLoraLoaderMixin
    theirs, text = unet(), clip()
    kwargs = {"return_lora_metadata": True, "unet_config": theirs.config}
    tensors, alphas, metadata = mixin.lora_state_dict(tmp_path / "ours", **kwargs)
    mixin.load_lora_into_unet(tensors, alphas, theirs, metadata=metadata)
    mixin.load_lora_into_text_encoder(tensors, alphas, text, metadata=metadata)
    assert (picture(unet()) - expected[0]).abs().max() > 0.05
    torch.testing.assert_close(picture(theirs), expected[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(states(text), expected[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dora", [False, True])
def test_we_read_what_diffusers_writes(dora, tmp_path):
    theirs = unet()
    config = peft.LoraConfig(
        r=4, lora_alpha=6, target_modules=["to_q", "to_out.0", "conv1"], use_dora=dora,
        rank_pattern={"conv1": 2}, alpha_pattern={"conv1": 3},
    )  # fmt: skip
    theirs.add_adapter(config)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in theirs.named_parameters():
        if "lora_" in name:
            noise = torch.randn(parameter.shape, generator=generator) * 0.1
            parameter.data += noise
    expected = picture(theirs)
    theirs.save_lora_adapter(tmp_path / "alone")
    layers = peft.get_peft_model_state_dict(theirs)
    metadata = theirs.peft_config["default"].to_dict()
    diffusers.StableDiffusionPipeline.save_lora_weights(
        tmp_path / "theirs", unet_lora_layers=layers, unet_lora_adapter_metadata=metadata
    )
    for place in ("theirs", "alone"):
        ours = unet()
        lk.load(ours, tmp_path / place)
        torch.testing.assert_close(picture(ours), expected, rtol=1e-4, atol=1e-4)


def test_every_way_round_is_the_same_picture(tmp_path):
    both = adapted()
    expected = picture(both["unet"])
    lk.save(both, tmp_path / "peft")
    place = tmp_path / "peft"
    for form in ("kohya", "diffusers", "peft"):
        assert lk.convert(place, tmp_path / f"to-{form}", to=form).largest < 1e-6
        place = tmp_path / f"to-{form}"
        again = nn.ModuleDict({"unet": unet(), "text_encoder": clip()})
        lk.load(again, place)
        torch.testing.assert_close(picture(again["unet"]), expected)
        alone = unet()
        lk.load(alone, place, component="unet")
        torch.testing.assert_close(picture(alone), expected)


@pytest.fixture
def pipeline(tmp_path):
    """A pipeline's folder: what diffusers writes, but for the weights."""
    folder = tmp_path / "base"
    unet().save_config(folder / "unet")
    clip().config.save_pretrained(folder / "text_encoder")
    index = {
        "_class_name": "StableDiffusionPipeline", "safety_checker": [None, None],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "X"],
    }  # fmt: skip
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def test_the_command_takes_a_pipeline_for_a_base(pipeline, tmp_path, capsys, monkeypatch):
    from lorakit.cli import app

    both = nn.ModuleDict({"unet": unet(), "text_encoder": clip()})
    lk.inject(both, lk.plan(both, ["*.attn1.*", "*.attn2.*"], 2))
    randomise(both, "default")
    lk.save(both, tmp_path / "ours")
    for to in ("cloneofsimo", "kohya"):
        arguments = ["convert", str(tmp_path / "ours"), str(tmp_path / to), "--to", to, "--drop"]
        app([*arguments, "--model", str(pipeline)], standalone_mode=False)
    app(["doctor", str(tmp_path / "kohya"), "--model", str(pipeline)], standalone_mode=False)
    said = capsys.readouterr().out
    assert "-> kohya" in said
    assert "fits" in said
    (pipeline / "unet" / "config.json").write_text("{}")
    index = json.loads((pipeline / "model_index.json").read_text())
    index["unet"] = ["diffusers", "NoSuchModel"]
    (pipeline / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(lk.LorakitError, match="NoSuchModel"):
        app([*arguments[:2], str(tmp_path / "x"), "--model", str(pipeline)], standalone_mode=False)
