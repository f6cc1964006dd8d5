"""Any names, shapes, ranks, patterns and dtypes: saved, converted, combined and merged alike."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import nn

import lorakit as lk
from families import randomise
from lorakit.core.errors import UnsupportedError
from lorakit.formats.load import read_adapter
from test_laws import same_bits

LEAVES = ["q_proj", "lin", "lora", "lora_A", "weight_", "base_layer_", "0", "12", "x-y", "ä", "a b",
          "default", "B", "to_out", "proj"]  # fmt: skip
NESTS = ["model", "layers", "block", "lin", "0", "7", "unet", "text_model"]
path = st.lists(st.sampled_from(NESTS), max_size=3).flatmap(
    lambda nest: st.sampled_from(LEAVES).map(lambda leaf: (*nest, leaf))
)
number = st.sampled_from([0.5, 1.0, 3.0, 8.0, 16.0, -2.0])
slow = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])


@st.composite
def worlds(draw):
    """A model of linear layers under odd names, and two adapters of it by patterns."""
    paths = draw(st.lists(path, min_size=1, max_size=5, unique=True))
    inner = {p[:i] for p in paths for i in range(1, len(p))}
    assume(not inner & set(paths))  # a layer has no layers inside
    shapes = [(draw(st.integers(1, 7)), draw(st.integers(1, 7))) for _ in paths]
    dtype = draw(st.sampled_from([torch.float32, torch.bfloat16, torch.float16]))
    seed = draw(st.integers(0, 2**16))
    names = [".".join(p) for p in paths]
    ranks = [{name: draw(st.integers(0, 4)) for name in names} for _ in range(2)]
    assume(all(any(own.values()) for own in ranks))
    pattern = draw(st.sampled_from(["*", f"*{names[0][-3:]}", names[0]]))
    alpha = {pattern: draw(number), "*": draw(number)}
    method = lk.LoRA(alpha=alpha if pattern != "*" else draw(number), rslora=draw(st.booleans()))
    return names, shapes, dtype, seed, ranks, method


def build(names, shapes, dtype, seed) -> nn.Module:
    torch.manual_seed(seed)
    root = nn.Module()
    for name, (columns, rows) in zip(names, shapes):
        at = root
        *nest, leaf = name.split(".")
        for part in nest:
            if part not in at._modules:
                at.add_module(part, nn.Module())
            at = at._modules[part]
        at.add_module(leaf, nn.Linear(columns, rows))
    return root.to(dtype)


def answers(model, names, shapes) -> list[torch.Tensor]:
    numbers = torch.Generator().manual_seed(1)
    with torch.no_grad():
        layers = [model.get_submodule(name) for name in names]
        return [
            layer(torch.randn(3, columns, generator=numbers).to(layer.weight.dtype))
            for layer, (columns, _) in zip(layers, shapes)
        ]


def changes(folder) -> dict[str, torch.Tensor]:
    state = read_adapter(folder, pickles=True)
    return {p: state.scale(x) * (x.B.double() @ x.A.double()) for p, x in state.low_rank.items()}


@slow
@given(world=worlds())
def test_any_adapter_is_saved_loaded_merged_and_combined(world):
    names, shapes, dtype, seed, ranks, method = world
    model = build(names, shapes, dtype, seed)
    pristine = {k: v.clone() for k, v in model.state_dict().items()}
    for place, own in enumerate(ranks):
        lk.inject(model, own, name=str(place), method=method)
        randomise(model, str(place), seed=seed + place)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for name in "01":
            lk.save(model, folder / name, name=name)
            other = build(names, shapes, dtype, seed)
            lk.load(other, folder / name)
            with lk.use(model, name):
                expected = answers(model, names, shapes)
            assert all(map(same_bits, answers(other, names, shapes), expected))
        lk.combine([folder / "0"], out=folder / "same")
        assert lk.diff(folder / "0", folder / "same").same
        lk.combine([folder / "0", folder / "1"], weights=[0.3, -1.7], out=folder / "sum")
        first, second, total = (changes(folder / name) for name in ("0", "1", "sum"))
        assert total.keys() == first.keys() | second.keys()
        for key, found in total.items():
            parts = [w * x[key] for w, x in ((0.3, first), (-1.7, second)) if key in x]
            size = sum(float(part.norm()) for part in parts)
            assert float((found - sum(parts)).norm()) <= 1e-6 * size
    with lk.merged(model, "0", "1"):
        for name, value in model.named_parameters():
            key = name.removesuffix(".weight")
            if name.endswith(".weight") and key in total and ".lora." not in name:
                delta = first.get(key, 0) + second.get(key, 0)
                exact = pristine[name].double() + delta
                bound = torch.finfo(dtype).eps * float(exact.abs().max()) + 1e-6
                assert float((value.detach().double() - exact).abs().max()) <= bound
    for name in "01":
        lk.remove(model, name)
    state = model.state_dict()
    assert list(state) == list(pristine)
    assert all(same_bits(state[key], value) for key, value in pristine.items())


@slow
@given(world=worlds(), there=st.sampled_from(["peft", "loralib", "vllm"]))
def test_any_adapter_is_converted_and_back_or_refused(world, there):
    names, shapes, dtype, seed, ranks, method = world
    model = build(names, shapes, dtype, seed)
    lk.inject(model, ranks[0], method=method)
    randomise(model, "default", seed=seed)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        lk.save(model, folder / "own")
        try:
            proof = lk.convert(folder / "own", folder / "there", to=there, model=model)
        except UnsupportedError:
            assert not (folder / "there").exists()
            assert there == "loralib"  # one alpha alone
            return
        told = {} if there != "loralib" else {"alpha": proof.untold["alpha"]}
        lk.convert(folder / "there", folder / "back", model=model, **told)
        before, after = changes(folder / "own"), changes(folder / "back")
        assert before.keys() == after.keys()
        for key, value in before.items():
            assert float((after[key] - value).norm()) <= 2e-6 * float(value.norm())


def test_a_module_named_like_ours_is_left_alone():
    model = nn.Sequential(nn.Linear(2, 2))
    model[0].lora = nn.Linear(2, 2)
    with pytest.raises(lk.LorakitError, match="'lora'"):
        lk.inject(model, {"0": 1})
