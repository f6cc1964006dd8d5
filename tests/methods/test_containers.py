"""A module in full that is a container: what is in it is trained, merged, taken off and read."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import lorakit as lk
from families import randomise
from lorakit.core.errors import AdapterFileError


class Called(nn.Module):
    """A model with a head of several layers, which it calls as one."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.query = nn.Linear(4, 4)
        self.head = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.ReLU(), nn.Linear(4, 2)))

    def forward(self, x):
        return self.head(self.query(x))


class Walked(Called):
    """The same, but that it calls the head's layers itself."""

    def forward(self, x):
        x = self.query(x)
        for layer in self.head:
            x = layer(x)
        return x


X = torch.ones(1, 4)


def adapted(kind):
    model = kind()
    lk.inject(model, lk.plan(model, ["query"], 2), method=lk.LoRA(extras=("head",)))
    randomise(model, "default", scale=0.3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1)
    return model


@pytest.mark.parametrize("kind", [Called, Walked])
def test_a_head_of_several_layers_in_full(kind, tmp_path):
    model, plain = adapted(kind), kind()(X)
    changed = model(X)
    changed.sum().backward()
    trained = {
        name.split(".lora.")[0] for name, p in model.named_parameters() if p.grad is not None
    }
    assert trained == {"query", "head.0", "head.1.1"}
    with lk.use(model):
        torch.testing.assert_close(model(X), plain, rtol=0, atol=0)
    lk.merge(model)
    torch.testing.assert_close(model(X), changed)
    lk.unmerge(model)
    lk.save(model, tmp_path / "a")
    lk.remove(model, "default")
    torch.testing.assert_close(model(X), plain, rtol=0, atol=0)
    again = kind()
    lk.load(again, tmp_path / "a")
    torch.testing.assert_close(again(X), changed, rtol=0, atol=0)


def test_a_folder_that_names_the_container(tmp_path):
    model = adapted(Called)
    lk.save(model, tmp_path / "a")
    (tmp_path / "a" / "lorakit.json").unlink()  # as PEFT writes it
    file = tmp_path / "a" / "adapter_config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config, "modules_to_save": ["head"]}))
    again = Called()
    lk.load(again, tmp_path / "a")
    torch.testing.assert_close(again(X), model(X), rtol=0, atol=0)
    tensors = load_file(tmp_path / "a" / "adapter_model.safetensors")
    lost = {name: value for name, value in tensors.items() if "head.1.1" not in name}
    save_file(lost, tmp_path / "a" / "adapter_model.safetensors")
    with pytest.raises(AdapterFileError, match=r"lacks head\.1\.1"):
        lk.load(Called(), tmp_path / "a")
