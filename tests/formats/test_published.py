"""Adapters that others published: read, converted to what can hold them, and back."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

import lorakit as lk
from conftest import REAL
from lorakit.core.errors import AdapterFileError, UnsupportedError
from lorakit.formats import FORMATS
from lorakit.formats.content import Options
from lorakit.formats.load import read_adapter

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("real")]
ADAPTERS = REAL / "adapters"
IMAGE = ("peft", "kohya", "diffusers", "loralib", "vllm")
CASES = {  # what has to be said of it, the formats that can hold it without its base, modules
    "diffusers_sd15_axe": ({}, IMAGE, 128),
    "loralib_roberta_base_mnli": ({"alpha": 16.0}, ("peft", "loralib"), 24),
    "peft_regression/lora_mlp/0.6.1": ({"alpha": 1.0}, ("peft", "loralib", "vllm"), 1),
}


@pytest.mark.parametrize("name", CASES)
def test_there_and_back(name, tmp_path):
    options, formats, count = CASES[name]
    source = ADAPTERS / name
    first = read_adapter(source, pickles=True, options=Options(**options))
    assert len(first.low_rank) == count
    for there in formats:
        one, two = tmp_path / f"{there}-1", tmp_path / f"{there}-2"
        proof = lk.convert(source, one, to=there, **options)
        back = lk.convert(one, two, to=formats[0], alpha=_alpha(first))
        assert max(proof.largest, back.largest) <= 1e-6
        again = read_adapter(two, pickles=True, options=Options(alpha=_alpha(first)))
        assert again.low_rank.keys() == first.low_rank.keys()
        for path, low in first.low_rank.items():
            delta = first.scale(low) * low.B @ low.A
            other = again.low_rank[path]
            gap = again.scale(other) * other.B @ other.A - delta
            assert gap.norm() <= 1e-6 * delta.norm()
        assert again.extras.keys() == first.extras.keys()
    for other in (form.name for form in FORMATS if form.name not in formats):
        with pytest.raises(UnsupportedError):
            lk.convert(source, tmp_path / other, to=other, **options)
        assert not (tmp_path / other).exists()


def _alpha(state) -> float:
    return next(iter(state.low_rank.values())).alpha


def mlp() -> nn.Module:
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.lin0, self.relu = nn.Linear(10, 20), nn.ReLU()
            self.lin1 = nn.Linear(20, 2)

        def forward(self, x):
            return self.lin1(self.relu(self.lin0(x.float()))).log_softmax(-1)

    return Model()


def emb_conv1d() -> nn.Module:
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.emb, self.conv1d, self.relu = nn.Embedding(100, 5), Conv1D(1, 5), nn.ReLU()
            self.lin0 = nn.Linear(10, 2)

        def forward(self, x):
            return self.lin0(self.relu(self.conv1d(self.emb(x))).flatten(1)).log_softmax(-1)

    return Model()


@pytest.mark.parametrize(("name", "make"), [("lora_mlp", mlp), ("lora_emb_conv1d", emb_conv1d)])
def test_the_regression_adapters_give_the_outputs_of_2023(name, make, tmp_path):
    source = ADAPTERS / "peft_regression" / name / "0.6.1"
    torch.manual_seed(0)
    model = make().eval()
    lk.convert(source, tmp_path / "a", model=model)
    lk.load(model, tmp_path / "a")
    expected = torch.load(source / "output.pt", map_location="cpu", weights_only=True)
    with torch.no_grad():
        found = model(torch.arange(90).view(9, 10))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    told = json.loads((tmp_path / "a" / "lorakit.json").read_text())
    assert told["adapter"]["converted"]["largest_error"] < 1e-6


def stable_diffusion(width: int) -> nn.ModuleDict:
    """The structure of Stable Diffusion without weights: 1.5 has texts of width 768, 2 of 1024."""
    diffusers = pytest.importorskip("diffusers")
    from transformers import CLIPTextConfig, CLIPTextModel

    with torch.device("meta"):
        unet = diffusers.UNet2DConditionModel(cross_attention_dim=width)
        clip = CLIPTextModel(CLIPTextConfig(
            hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12,
        ))  # fmt: skip
    return nn.ModuleDict({"unet": unet, "text_encoder": clip})


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("file", "count", "width"),
    [("lora_disney.safetensors", 144 + 48, 768), ("lora_illust.pt", 128, 1024)],
)
def test_files_without_names_get_them_from_the_base(file, count, width, tmp_path):
    source = ADAPTERS / "cloneofsimo" / file
    with pytest.raises(UnsupportedError, match="Pass the base model"):
        lk.convert(source, tmp_path / "x")
    base = stable_diffusion(width)
    other = stable_diffusion(1792 - width)
    with pytest.raises(AdapterFileError, match="not those of the base"):
        lk.convert(source, tmp_path / "x", model=other)
    tokens = ("<s1> (token embedding)", "<s2> (token embedding)") * file.endswith("safetensors")
    first = read_adapter(source, model=base, check_base=False, pickles=True)
    assert len(first.low_rank) == count
    assert "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q" in first.low_rank
    place = source
    for to in ("kohya", "diffusers", "peft", "cloneofsimo"):
        proof = lk.convert(place, tmp_path / to, to=to, model=base, drop=True)
        assert proof.largest <= 1e-6
        assert len(proof.errors) == count
        assert proof.dropped == (tokens if place == source else ())
        place = tmp_path / to
    again = read_adapter(place, model=base, check_base=False)
    for path, low in first.low_rank.items():
        delta, other = first.scale(low) * low.B @ low.A, again.low_rank[path]
        torch.testing.assert_close(again.scale(other) * other.B @ other.A, delta)
    lk.convert(source, tmp_path / "kept", to="cloneofsimo", model=base)
    kept = read_adapter(tmp_path / "kept", model=base, check_base=False)
    assert list(kept.origin["tokens"]) == [token.partition(" ")[0] for token in tokens]
