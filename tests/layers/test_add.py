"""The fast form of a linear update: the same numbers and gradients as the plain one."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

import lorakit as lk
from families import build, inputs, randomise
from lorakit.layers import shared
from lorakit.layers.dropout import Dropped

METHODS = {
    "lora": lk.LoRA(alpha=6), "rslora": lk.LoRA(alpha=6, rslora=True),
    "anchored": lk.LoRA(alpha=6, init="pissa"), "lora-fa": lk.LoRAFA(alpha=6), "vera": lk.VeRA(),
}  # fmt: skip
EACH = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())


@pytest.fixture(autouse=True, params=["many tokens", "few tokens"])
def tokens(request, monkeypatch) -> str:
    """Both forms for the same small inputs."""
    monkeypatch.setattr("lorakit.layers.add.FEW", 10**9 if request.param == "few tokens" else 0)
    return request.param


MANY = pytest.mark.parametrize("tokens", ["many tokens"], indirect=True)


def plainly(monkeypatch) -> None:
    """Let every update be made by `product` and an addition."""
    monkeypatch.setattr("lorakit.layers.add.is_free", lambda *_: False)


def adapted(method, family="llama", targets=("all-linear",), dtype=torch.float32):
    torch.manual_seed(0)
    model = build(family, dtype=dtype)
    lk.inject(model, lk.plan(model, list(targets), 3), method=method)
    randomise(model, "default")
    return model.train()


def step(model) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    model.zero_grad()
    batch = inputs(model, rows=3)
    table = model.get_input_embeddings()
    start = table(batch["input_ids"]).detach().requires_grad_(True)
    torch.manual_seed(5)
    logits = model(inputs_embeds=start).logits
    logits.float().square().mean().backward()
    grads = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return logits.detach(), {**grads, "start": start.grad}


@EACH
@pytest.mark.parametrize("family", ["llama", "gpt_neox", "qwen2"])
def test_the_fast_form_is_the_plain_one(method, family, monkeypatch):
    targets = ("qkv", "mlp") if family == "gpt_neox" else ("all-linear",)
    model = adapted(method, family, targets)
    logits, grads = step(model)
    with monkeypatch.context() as patch:
        plainly(patch)
        expected, wanted = step(model)
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-6)
    assert grads.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(grads[name], value, rtol=1e-4, atol=1e-6, msg=name)


@EACH
@pytest.mark.parametrize("p", [0.0, 0.05, 0.5])
def test_gradients_against_float64(method, p, monkeypatch):
    """One layer, whose dropped numbers are known, by autograd in float64."""
    if method.init != "default" and p:
        pytest.skip("an anchored update is made the plain way, whose mask nobody knows")
    torch.manual_seed(0)
    layer = nn.Linear(12, 9)
    model = nn.Sequential(layer)
    options = {} if isinstance(method, lk.VeRA) else {"alpha": 6}
    kind = type(method)(dropout=p, init=method.init, rslora=method.rslora, **options)
    lk.inject(model, {"0": 4}, method=kind)
    randomise(model, "default", scale=0.5)
    update = layer.lora.a0.low_rank
    drawn: list[Dropped] = []
    draw = Dropped.draw
    monkeypatch.setattr(shared.Dropped, "draw", lambda p: drawn.append(draw(p)) or drawn[-1])
    x = torch.randn(5, 7, 12, requires_grad=True)
    weights = torch.randn(5, 7, 9)
    (model.train()(x) * weights).sum().backward()
    assert len(drawn) == (1 if p else 0)
    keep = torch.ones(35, 12, dtype=torch.float64)
    if p:
        keep = drawn[0].into(keep) * drawn[0].scale
    wide = x.detach().double().requires_grad_(True)
    masters = {n: v.detach().double().requires_grad_(True) for n, v in update.named_parameters()}
    A, B = masters["A"], masters["B"]
    if "d" in masters:
        A, B = masters["d"][:, None] * A, masters["b"][:, None] * B
    delta = B @ A if update.anchor is None else B @ A - (update.B0 @ update.A0).double()
    y = F.linear(wide, layer.weight.double(), layer.bias.double())
    y = y + update.scale * (wide.reshape(35, 12) * keep @ delta.T).view(5, 7, 9)
    (y * weights.double()).sum().backward()
    torch.testing.assert_close(x.grad.double(), wide.grad, rtol=1e-4, atol=1e-5)
    for name, parameter in update.named_parameters():
        if parameter.requires_grad:
            expected = masters[name].grad
            torch.testing.assert_close(parameter.grad.double(), expected, rtol=1e-4, atol=1e-4)


def curve(dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    """The losses of 100 steps on one batch."""
    torch.manual_seed(seed)
    model = build("llama", dtype=dtype)
    torch.manual_seed(seed)
    lk.inject(model, lk.plan(model, "all-linear", 3), method=lk.LoRA(alpha=6))
    trained = [p for p in model.train().parameters() if p.requires_grad]
    optimizer, batch = torch.optim.AdamW(trained, lr=1e-3), inputs(model, rows=4)
    losses = []
    for _ in range(100):
        loss = model(**batch, labels=batch["input_ids"]).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.05
    return torch.tensor(losses)


def test_curves_are_those_of_the_plain_form(monkeypatch):
    fast = curve(torch.float32)
    plainly(monkeypatch)
    plain = curve(torch.float32)
    assert ((fast - plain) / plain).abs().max() < 1e-5


def test_curves_in_bfloat16_differ_less_than_those_of_seeds(monkeypatch):
    fast = curve(torch.bfloat16)
    plainly(monkeypatch)
    plain, other = curve(torch.bfloat16), curve(torch.bfloat16, seed=1)
    spread = ((plain - plain[0]) - (other - other[0])).abs().mean()  # as losses fall
    assert (fast - plain).abs().mean() < spread


@MANY
def test_nothing_of_the_size_of_the_input_is_kept():
    def kept(dropout: float) -> int:
        layer = nn.Linear(256, 256).requires_grad_(False)
        model = nn.Sequential(layer)
        lk.inject(model, {"0": 4}, method=lk.LoRA(dropout=dropout))
        seen: dict[int, int] = {}

        def pack(value):
            seen[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
            return value

        x = torch.randn(64, 256, requires_grad=True)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
            model.train()(x)
        seen.pop(x.untyped_storage().data_ptr(), None)
        weights = [layer.weight, *layer.lora.parameters()]
        for weight in weights:
            seen.pop(weight.untyped_storage().data_ptr(), None)
        return sum(seen.values())

    assert kept(0.0) <= 2 * 4 * 64 * 4  # h
    assert kept(0.1) == kept(0.0)


@MANY
@pytest.mark.parametrize("method", [lk.LoRA, lk.DoRA])
@pytest.mark.parametrize("mixed", [False, True])
def test_in_float32_gradients_are_those_of_float32(method, mixed):
    """The option: on a bfloat16 base the adapter's own arithmetic is not rounded to it."""
    torch.manual_seed(0)
    errors = []
    for in_float32 in (False, True):
        layer = nn.Linear(64, 48).to(torch.bfloat16)
        model = nn.Sequential(layer)
        torch.manual_seed(1)
        lk.inject(model, {"0": 4}, method=method(in_float32=in_float32))
        randomise(model, "default", scale=0.5)
        update = layer.lora.a0.low_rank
        x = torch.randn(40, 3, 64).to(torch.bfloat16)
        dy = torch.randn(40, 3, 48).to(torch.bfloat16)
        with lk.use(model, per_sample=["default"] * 40) if mixed else lk.use(model, "default"):
            model(x).backward(dy)
        h = update.scale * (x.double() @ update.A.detach().double().T)
        exact = dy.double().flatten(0, 1).T @ h.flatten(0, 1)
        if method is lk.DoRA:  # in proportion: the magnitude is a factor of each row
            with torch.no_grad():
                share = update.magnitude.double() / update.norm(layer).double()
            exact = share[:, None] * exact
        errors.append(float((update.B.grad.double() - exact).norm() / exact.norm()))
    assert errors[1] < 1e-4 < errors[0] if method is lk.LoRA else errors[1] < errors[0]


@pytest.mark.parametrize("tokens", ["few tokens"], indirect=True)
def test_few_tokens_are_multiplied_in_float32():
    """On a bfloat16 base the update is rounded once, when it is added."""
    torch.manual_seed(0)
    layer = nn.Linear(64, 48).to(torch.bfloat16)
    model = nn.Sequential(layer)
    lk.inject(model, {"0": 4})
    randomise(model, "default", scale=1.0)
    x = torch.randn(3, 64, dtype=torch.bfloat16, requires_grad=True)
    update = layer.lora.a0.low_rank
    with torch.no_grad():
        base = F.linear(x, layer.weight, layer.bias)
        exact = base + (update.scale * (x.float() @ update.A.T) @ update.B.T)
        assert torch.equal(model(x), exact.to(torch.bfloat16))
    model(x).sum().backward()
    assert x.grad.dtype == torch.bfloat16
    assert update.A.grad.dtype == torch.float32


def test_what_others_may_have_seen_is_not_written_to():
    torch.manual_seed(0)
    layer, seen = nn.Linear(6, 5), []
    layer.register_forward_hook(lambda *given: seen.append(given[2]))
    model, x = nn.Sequential(layer), torch.randn(3, 6)
    lk.inject(model, {"0": 2})
    randomise(model, "default", scale=1.0)
    y = model(x)
    assert torch.equal(seen[0], F.linear(x, layer.weight, layer.bias))
    assert not torch.equal(y, seen[0])


@pytest.mark.parametrize("grad", [True, False])
def test_transforms_and_autocast_get_the_plain_form(grad):
    model = adapted(lk.LoRA(alpha=6)).eval()
    batch = inputs(model)
    with torch.set_grad_enabled(grad):
        expected = model(**batch).logits.detach()
        with torch.autocast("cpu", torch.bfloat16):
            wide = model(**batch).logits.detach()
        assert (wide.float() - expected).abs().max() < 0.05
    layer = nn.Sequential(nn.Linear(4, 4))
    lk.inject(layer, {"0": 2})
    randomise(layer, "default", scale=1.0)
    x = torch.randn(5, 4)
    mapped = torch.vmap(lambda row: layer(row))(x)
    torch.testing.assert_close(mapped, layer(x))


@settings(max_examples=40, deadline=None)
@given(p=st.floats(0.001, 0.9), count=st.integers(1, 5000), seed=st.integers(0, 2**62 - 1))
def test_positions_rise_and_lie_inside(p, count, seed):
    found = Dropped(p, seed).positions(count)
    assert torch.equal(found, Dropped(p, seed).positions(count))
    assert ((found >= 0) & (found < count)).all()
    assert (found[1:] > found[:-1]).all()


@pytest.mark.parametrize("p", [0.02, 0.1, 0.29, 0.5])
def test_dropout_is_bernoulli(p):
    """Rate, independence of neighbours, and of draws, each within five standard deviations."""
    count, draws = 20_000, 50
    masks = torch.stack(
        [Dropped(p, seed).into(torch.ones(count)) == 0 for seed in range(draws)]
    ).float()

    def close(found: float, expected: float, samples: int) -> bool:
        return abs(found - expected) < 5 * math.sqrt(expected * (1 - expected) / samples)

    assert close(float(masks.mean()), p, count * draws)
    for lag in (1, 2, 7):
        both = float((masks[:, lag:] * masks[:, :-lag]).mean())
        assert close(both, p * p, count * draws)
    assert close(float((masks[1:] * masks[:-1]).mean()), p * p, count * (draws - 1))
    each = masks.mean(0)  # every place alike: the first and the last, too
    assert close(float(each[:100].mean()), p, 100 * draws)
    assert close(float(each[-100:].mean()), p, 100 * draws)
    spread = float(masks.sum(1).var())
    assert 0.4 < spread / (count * p * (1 - p)) < 2


@MANY
def test_layers_of_one_input_share_a_product(monkeypatch):
    calls: list[int] = []
    apply = shared.Project.apply
    monkeypatch.setattr(
        shared.Project, "apply", lambda x, drop, *factors: calls.append(len(factors))
        or apply(x, drop, *factors),
    )  # fmt: skip
    model = adapted(lk.LoRA(alpha=6))
    together = step(model)
    assert calls == 2 * [3, 1, 2, 1]  # q, k, v; o; gate, up; down
    for module in model.modules():
        if hasattr(module, "siblings"):
            module.siblings = None
    calls.clear()
    alone = step(model)
    assert calls == [1] * 14
    torch.testing.assert_close(together[0], alone[0], rtol=1e-5, atol=1e-6)
    for name, value in alone[1].items():
        torch.testing.assert_close(together[1][name], value, rtol=1e-4, atol=1e-6, msg=name)


def test_keys_of_another_input_are_their_own():
    """Cross-attention: queries come from the decoder, keys and values from the encoder."""
    torch.manual_seed(0)
    model = build("bart")
    lk.inject(model, lk.plan(model, ["q", "k", "v"], 3))
    randomise(model, "default", scale=0.3)
    batch = inputs(model)
    with torch.no_grad():
        found = model(**batch).logits
        for module in model.modules():
            if hasattr(module, "siblings"):
                module.siblings = None
        torch.testing.assert_close(found, model(**batch).logits, rtol=1e-5, atol=1e-5)


def test_a_shared_product_is_not_used_after_a_change():
    """The same input tensor twice, the factors changed between: by a step, and the input too."""

    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.q, self.k = nn.Linear(6, 5), nn.Linear(6, 5)
            self.both = True

        def forward(self, x):
            return self.q(x) + self.k(x) if self.both else self.k(x)

    torch.manual_seed(0)
    model, x = Pair(), torch.randn(4, 6)
    lk.inject(model, {"q": 2, "k": 2})
    randomise(model, "default", scale=1.0)

    def expected(layer):
        update = layer.lora.a0.low_rank
        return F.linear(x, layer.weight + update.scale * update.B @ update.A, layer.bias)

    for _ in range(3):
        torch.testing.assert_close(model(x), expected(model.q) + expected(model.k))
    model.q(x)  # the product for both is made, and one of them is left waiting
    randomise(model, "default", scale=1.0, seed=1)
    model.both = False
    torch.testing.assert_close(model(x), expected(model.k))
    model.both = True
    model(x)
    model.q(x)
    with torch.no_grad():
        x.mul_(2)
    torch.testing.assert_close(model.k(x), expected(model.k))
    other = x.clone()
    model.q(other)
    torch.testing.assert_close(model.k(x), expected(model.k))


def test_siblings_of_two_adapters_and_of_copies_stay_apart():
    import copy
    import pickle

    torch.manual_seed(0)
    model = build("llama")
    for name in ("one", "two"):
        lk.inject(model, lk.plan(model, "attention", 2), name=name)
        randomise(model, name, seed=len(name))
    lk.activate(model, "one", "two")
    batch = inputs(model)
    with torch.no_grad():
        for _ in range(3):
            expected = model(**batch).logits
        for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            lk.remove(other, "two")
            lk.activate(model, "one")
            for _ in range(3):
                torch.testing.assert_close(other(**batch).logits, model(**batch).logits)
            lk.activate(model, "one", "two")
        torch.testing.assert_close(model(**batch).logits, expected)


def test_dropout_is_drawn_once_for_a_shared_input():
    model = adapted(lk.LoRA(alpha=6, dropout=0.3))
    step(model)
    torch.manual_seed(1)
    one = step(model)
    torch.manual_seed(1)
    two = step(model)
    assert torch.equal(one[0], two[0])
    assert all(torch.equal(one[1][name], two[1][name]) for name in one[1])


def test_a_replica_of_an_update_goes_alone():
    """As torch.nn.DataParallel makes them: shallow copies that share what is no parameter."""
    import copy

    model = adapted(lk.LoRA(alpha=6))
    layer = model.model.layers[0].self_attn.q_proj
    x = torch.randn(3, 32)
    expected = layer(x)
    site = copy.copy(layer.lora)
    site._modules = {"a0": copy.copy(layer.lora.a0)}
    site.a0._modules = {"low_rank": copy.copy(layer.lora.a0.low_rank)}
    replica = copy.copy(layer)
    replica._modules = {"lora": site}
    torch.testing.assert_close(replica(x), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("order", [("plain", "dora"), ("dora", "plain")])
def test_dora_beside_another_adapter_sees_what_the_layer_gave(order):
    """Both add to the layer's own output; one of them changes it in place."""
    torch.manual_seed(0)
    layer, x = nn.Linear(6, 5), torch.randn(4, 6)
    model = nn.Sequential(layer)
    for name in order:
        method = lk.DoRA(alpha=4) if name == "dora" else lk.LoRA(alpha=4)
        lk.inject(model, {"0": 2}, name=name, method=method)
        randomise(model, name, scale=0.5)
    alone = []
    for names in ((), ("plain",), ("dora",), order):
        with lk.use(model, *names):
            alone.append(model(x).detach())
    base, plain, dora, both = alone
    torch.testing.assert_close(both, plain + dora - base)
