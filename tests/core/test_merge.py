from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers.pytorch_utils import Conv1D

import lorakit as lk
from families import build, inputs, randomise
from lorakit.core.merge import rounded
from lorakit.core.state import capture
from test_laws import same_bits


def model_with(dtype=torch.float32, *names: str):
    model = build("llama-tied", dtype=dtype)
    for seed, name in enumerate(names or ("x",)):
        lk.inject(model, lk.plan(model, ["q", "embeddings"], 2), name=name)
        randomise(model, name, seed=seed)
    return model


@settings(max_examples=25, deadline=None)
@given(
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    scale=st.floats(1e-6, 3.0),
    seed=st.integers(0, 2**16),
    cycles=st.integers(1, 4),
)
def test_any_adapter_leaves_no_bit_changed(dtype, scale, seed, cycles):
    model = torch.nn.Sequential(torch.nn.Linear(6, 5, bias=False)).to(dtype)
    before = model[0].weight.detach().clone()
    lk.inject(model, {"0": 2}, name="x")
    randomise(model, "x", seed=seed, scale=scale)
    for _ in range(cycles):
        lk.merge(model, "x")
        lk.unmerge(model)
    assert same_bits(model[0].weight, before)


def test_while_merged_only_what_is_merged_can_act():
    model = model_with(torch.float32, "one", "two")
    with lk.merged(model, "one"):
        with lk.use(model, "one"):
            pass
        for attempt in (
            lambda: lk.use(model).__enter__(),
            lambda: lk.use(model, "two").__enter__(),
            lambda: lk.use(model, per_sample=["one"]).__enter__(),
            lambda: lk.activate(model, "two"),
            lambda: lk.merge(model, "two"),
            lambda: lk.remove(model, "one"),
            lambda: lk.inject(model, lk.plan(model, "q", 2), name="three"),
        ):
            with pytest.raises(lk.LorakitError, match="merged"):
                attempt()


def test_tied_weights_that_are_not_adapted_stay_the_base():
    model = model_with()
    head = model.lm_head.weight
    assert head is model.model.embed_tokens.weight
    with lk.merged(model, "x"):
        assert model.lm_head.weight is head
        assert model.model.embed_tokens.weight is not head
    assert model.model.embed_tokens.weight is head


def test_saving_while_merged_saves_the_adapter(tmp_path):
    model = model_with()
    lk.save(model, tmp_path / "a")
    with lk.merged(model, "x"):
        lk.save(model, tmp_path / "b")
    a, b = ((tmp_path / n / "adapter_model.safetensors").read_bytes() for n in "ab")
    assert a == b
    lk.load(build("llama-tied"), tmp_path / "b")


def test_the_report_says_what_rounding_swallowed():
    model = torch.nn.Sequential(torch.nn.Linear(64, 64, bias=False)).to(torch.bfloat16)
    lk.inject(model, {"0": 2}, name="x", method=lk.LoRA(alpha=2))
    randomise(model, "x", scale=1e-3)
    update = model[0].lora.a0.low_rank
    exact = (model[0].weight.float() + update.B @ update.A).detach()
    before = model[0].weight.detach().clone()
    report = lk.merge(model, "x")
    unchanged = (model[0].weight == before).float().mean()
    assert report.unchanged == pytest.approx(float(unchanged), abs=0.01)
    assert report.unchanged > 0.5
    assert report.error == pytest.approx(
        float((model[0].weight.detach().float() - exact).abs().max())
    )


def test_a_merged_weight_that_was_replaced_is_not_lost():
    model = model_with()
    lk.merge(model, "x")
    layer = model.model.layers[0].self_attn.q_proj
    merged, other = layer.weight, torch.nn.Parameter(torch.zeros_like(layer.weight))
    layer.weight = other
    with pytest.raises(lk.LorakitError, match="was replaced"):
        lk.unmerge(model)
    assert layer.weight is other
    layer.weight = merged
    lk.unmerge(model)


def test_a_cast_between_merge_and_unmerge_is_refused():
    model = model_with()
    lk.merge(model, "x")
    model.to(torch.bfloat16)
    with pytest.raises(lk.LorakitError, match="was cast"):
        lk.unmerge(model)


def test_merged_models_are_as_plain_as_the_base():
    model = model_with()
    with torch.no_grad():
        expected = model(**inputs(model)).logits
        lk.merge(model)
        state = {k: v for k, v in model.state_dict().items() if ".lora." not in k}
        plain = build("llama-tied")
        plain.lm_head.weight = torch.nn.Parameter(plain.lm_head.weight.clone())
        plain.load_state_dict(state)
        assert torch.allclose(plain(**inputs(model)).logits, expected, atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(
    dtype=st.sampled_from([torch.bfloat16, torch.float16]),
    exponent=st.integers(-6, 6),
    seed=st.integers(0, 2**16),
)
def test_stochastic_rounding_takes_a_neighbour_and_is_right_on_average(dtype, exponent, seed):
    numbers = torch.Generator().manual_seed(seed)
    exact = torch.randn(50, generator=numbers) * 2.0**exponent
    drawn = torch.stack([rounded(exact, dtype, numbers) for _ in range(400)]).float()
    step = torch.finfo(dtype).eps * exact.abs() * 2 + torch.finfo(dtype).smallest_normal
    assert ((drawn - exact).abs() <= step).all()
    assert ((drawn.mean(0) - exact).abs() <= 5 * step / 2 / 400**0.5).all()
    representable = exact.to(dtype).float()
    assert torch.equal(rounded(representable, dtype, numbers).float(), representable)


def test_stochastic_rounding_keeps_on_average_what_the_nearest_swallows():
    model = torch.nn.Sequential(torch.nn.Linear(256, 256, bias=False)).to(torch.bfloat16)
    lk.inject(model, {"0": 4})
    randomise(model, "default", scale=0.0005)
    low = model[0].lora.a0["low_rank"]
    wanted = low.delta(torch.float64, torch.device("cpu"))
    base = model[0].weight.detach().double()
    kept = {}
    for rounding in ("nearest", "stochastic"):
        report = lk.merge(model, rounding=rounding, seed=3)
        change = model[0].weight.detach().double() - base
        lk.unmerge(model)
        kept[rounding] = float((change * wanted).sum() / wanted.square().sum())
        assert report.delta_error == pytest.approx(
            float((change - wanted).norm() / wanted.norm()), rel=0.02
        )
    assert report.unchanged < 1
    assert abs(kept["stochastic"] - 1) < 0.2
    assert abs(kept["stochastic"] - 1) < abs(kept["nearest"] - 1)


def test_a_mistyped_rounding_is_refused():
    model = model_with()
    with pytest.raises(lk.LorakitError, match="'stochastic'"):
        lk.merge(model, rounding="stochastik")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_a_merge_is_the_rounded_sum_and_its_report_counts_every_weight(dtype):
    torch.manual_seed(0)
    wide = torch.float64 if dtype == torch.float32 else torch.float32
    model = nn.Sequential(nn.Linear(300, 310), Conv1D(300, 310)).to(dtype)  # above one piece each
    weights = [layer.weight.detach().clone() for layer in model]
    lk.inject(model, {"0": 4, "1": 4}, name="x", method=lk.LoRA(alpha=6))
    lk.inject(model, {"0": 4}, name="y", method=lk.LoRA(alpha=0.01))
    for name in "xy":
        randomise(model, name)
    sums = [weight.to(wide) for weight in weights]
    for name, scale in (("x", 1.5), ("y", 0.0025)):
        for path, low in capture(model, name).low_rank.items():
            change = (low.B.to(wide) @ low.A.to(wide)) * scale
            sums[int(path)] = sums[int(path)] + (change.T if path == "1" else change)
    report = lk.merge(model, "x", "y")
    for layer, weight, total in zip(model, weights, sums):
        assert torch.equal(layer.weight, total.to(dtype))
        assert layer.weight.stride() == weight.stride()
    base = torch.cat([weight.flatten() for weight in weights]).to(wide)
    exact = torch.cat([total.flatten() for total in sums])
    value = exact.to(dtype).to(wide)
    gap, change = value - exact, exact - base
    moved = change != 0
    assert report.unchanged == (moved & (value == base)).sum().item() / moved.sum().item()
    assert report.error == gap.abs().max().item()
    ratio = (gap.double().square().sum() / change.double().square().sum()).sqrt().item()
    assert report.delta_error == pytest.approx(ratio, rel=1e-5)
