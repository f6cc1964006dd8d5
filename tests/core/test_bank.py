"""Banks: mixed batches give what each row's adapter gives alone, forward and backward."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

import lorakit as lk
from families import build, inputs, randomise
from lorakit.core import bank
from lorakit.core.bank import group
from lorakit.core.errors import RoutingError
from lorakit.core.update import LowRank

CPU = torch.device("cpu")


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.one_of(st.none(), st.integers(0, 4)), min_size=1, max_size=20),
    st.sampled_from([1, 2, 8, 40]),
)
def test_every_row_has_one_place_in_a_group_of_its_adapter(adapters, tokens):
    rows = [[r for r, a in enumerate(adapters) if a == n] for n in range(5)]
    rows = [own for own in rows if own]
    if not rows:
        return
    found = group(rows, len(adapters), tokens, CPU)
    take = torch.arange(len(adapters)) if found.take is None else found.take
    assert len(take) % found.size == 0
    groups = len(take) // found.size
    which = torch.arange(groups) if found.which is None else found.which
    assert len(which) == groups
    covered = torch.arange(len(adapters)) if found.rows is None else found.rows
    places = torch.arange(len(take)) if found.places is None else found.places
    assert torch.equal(take[places], covered)
    assert sorted(covered.tolist()) == sorted(row for own in rows for row in own)
    for place, row in zip(places.tolist(), covered.tolist()):
        assert row in rows[which[place // found.size]]


def test_equal_rows_in_order_are_not_moved():
    assert group([[0, 1], [2, 3]], 4, 8, CPU) == (2, None, None, None, None)
    assert group([[0], [1], [2]], 3, 1, CPU) == (1, None, None, None, None)


def layer_with(ranks: list[int], dtype=torch.float32, outputs: int = 9):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, outputs)).to(dtype)
    for number, rank in enumerate(ranks):
        method = lk.LoRA(alpha=3 + number, rslora=number % 2 == 1)
        lk.inject(model, {"0": rank}, name=str(number), method=method)
        randomise(model, str(number), scale=0.5, seed=number)
    return model


def one_by_one(monkeypatch) -> None:
    monkeypatch.setattr("lorakit.core.site.stacks", lambda update: False)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from([None, "0", "1", "2"]), min_size=1, max_size=9),
    st.sampled_from([(4, 4, 4), (1, 4, 7)]),
    st.integers(1, 3),
    st.booleans(),
)
def test_rows_and_gradients_against_float64(names, ranks, repeat, long):
    """Any order of rows, ranks, scales, and several rows for each sample."""
    model = layer_with(list(ranks))
    layer = model[0]
    x = torch.randn(len(names) * repeat, *((30, 12) if long else (12,)), requires_grad=True)
    weights = torch.randn(*x.shape[:-1], 9)
    with lk.use(model, per_sample=names):
        y = model(x)
        (y * weights).sum().backward()
    wide = x.detach().double().requires_grad_(True)
    masters = {
        n: {k: v.detach().double().requires_grad_(True) for k, v in u.named_parameters()}
        for n, u in ((str(i), layer.lora.updates(f"a{i}")["low_rank"]) for i in range(3))
    }
    expected = []
    for row in range(len(x)):
        name = names[row // repeat]
        own = F.linear(wide[row], layer.weight.double(), layer.bias.double())
        if name is not None:
            scale = layer.lora.updates(f"a{name}")["low_rank"].scale
            own = own + scale * wide[row] @ masters[name]["A"].T @ masters[name]["B"].T
        expected.append(own)
    stacked = torch.stack(expected)
    (stacked * weights.double()).sum().backward()
    torch.testing.assert_close(y.double(), stacked, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(x.grad.double(), wide.grad, rtol=1e-4, atol=1e-5)
    for name, values in masters.items():
        for key, value in values.items():
            mine = layer.lora.updates(f"a{name}")["low_rank"].get_parameter(key).grad
            if name in names:
                torch.testing.assert_close(mine.double(), value.grad, rtol=1e-4, atol=1e-4)
            else:
                assert mine is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", ["llama", "gpt2", "bert"])
def test_models_answer_as_without_banks(family, dtype, monkeypatch):
    torch.manual_seed(0)
    model = build(family, dtype=dtype).eval()
    names = ["one", "two", "three"]
    for rank, name in enumerate(names, 2):
        lk.inject(model, lk.plan(model, "all-linear", rank), name=name)
        randomise(model, name, seed=rank)
    batch = inputs(model, rows=6)
    rows = ["two", "one", None, "one", "three", "one"]

    def answer() -> torch.Tensor:
        with torch.no_grad(), lk.use(model, per_sample=rows):
            return model(**batch).logits.float()

    made: list[int] = []
    monkeypatch.setattr(
        bank.Bank, "product", lambda self, x, groups, real=bank.Bank.product: made.append(1)
        or real(self, x, groups),
    )  # fmt: skip
    found = answer()
    assert made
    with monkeypatch.context() as patch:
        one_by_one(patch)
        expected = answer()
    bound = 1e-5 if dtype == torch.float32 else 0.03
    assert (found - expected).abs().max() <= bound * expected.abs().max().clamp(min=1)


def test_each_of_64_tenants_in_one_batch_is_answered_alone():
    torch.manual_seed(0)
    model = build("llama").eval()
    names = [f"tenant {number}" for number in range(64)]
    for number, name in enumerate(names):
        lk.inject(model, lk.plan(model, "all-linear", 1 + number % 3), name=name)
        randomise(model, name, seed=number)
    batch = inputs(model, rows=64)
    with torch.no_grad():
        with lk.use(model, per_sample=names):
            mixed = model(**batch).logits
        for row, name in enumerate(names):
            with lk.use(model, name):
                alone = model(**{key: value[row : row + 1] for key, value in batch.items()}).logits
            torch.testing.assert_close(mixed[row], alone[0], rtol=1e-4, atol=1e-5)


def test_parts_of_fused_layers_stack(monkeypatch):
    torch.manual_seed(0)
    model = build("gpt2").eval()
    for name in ("one", "two"):
        lk.inject(model, lk.plan(model, ["q", "v"], 3), name=name)
        randomise(model, name, seed=len(name))
    batch = inputs(model, rows=2)
    with torch.no_grad():
        with lk.use(model, per_sample=["two", "one"]):
            found = model(**batch).logits
        for row, name in enumerate(["two", "one"]):
            with lk.use(model, name):
                expected = model(**batch).logits[row]
            torch.testing.assert_close(found[row], expected, rtol=1e-4, atol=1e-5)


def test_a_step_within_the_block_is_seen():
    """Nothing is kept from call to call that a change of the factors would make wrong."""
    model = layer_with([2, 2])
    x = torch.randn(2, 12)
    with torch.no_grad(), lk.use(model, per_sample=["0", "1"]):
        before = model(x)
        for update in model[0].lora.modules():
            if isinstance(update, LowRank):
                update.B.data.mul_(2)
        after = model(x)
        base = F.linear(x, model[0].weight, model[0].bias)
    torch.testing.assert_close(after - base, 2 * (before - base))


def test_no_rows_are_no_work():
    model = layer_with([2, 2])
    with lk.use(model, per_sample=["0", "1"]):
        assert model(torch.randn(0, 12)).shape == (0, 9)
        with pytest.raises(RoutingError, match="3 rows"):
            model(torch.randn(3, 12))


def test_dropout_is_drawn_for_each_adapter_by_itself():
    model = nn.Sequential(nn.Linear(12, 9))
    for name in "ab":
        lk.inject(model, {"0": 2}, name=name, method=lk.LoRA(dropout=0.5))
        randomise(model, name, scale=1.0)
    x = torch.randn(2, 12)
    with torch.no_grad(), lk.use(model, per_sample=["a", "b"]):
        first, second = model.train()(x), model(x)
        assert not torch.equal(first, second)
        assert torch.equal(model.eval()(x), model(x))
