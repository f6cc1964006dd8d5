"""AdaLoRA: the paper's update, its penalty, what ranks are judged by, and their falling budget."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import lorakit as lk
from families import build, inputs, randomise
from lorakit.core.errors import PlanError, TrainingError, UnsupportedError
from lorakit.core.state import capture
from lorakit.methods.adalora import progress, singular


def small(rank: int = 4, **options):
    """Two layers under an AdaLoRA, with values that change the answer, and a batch."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(9, 8), nn.Tanh(), nn.Linear(8, 7))
    lk.inject(model, {"0": rank, "2": rank}, method=lk.AdaLoRA(alpha=8, **options))
    randomise(model, "default", scale=0.3)
    return model, torch.randn(5, 9)


def trained(model, x, steps: int, method: lk.AdaLoRA, first: int = 1, until: int | None = None):
    """Plain training as the docstring has it; what `step` returned at each step."""
    own = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(own, lr=0.05)
    told = []
    for step in range(first, (until or steps) + 1):
        loss = model(x).square().mean() + method.penalty(model, "default")
        loss.backward()
        optimizer.step()
        told.append(method.step(model, "default", step, steps))
        optimizer.zero_grad()
    return told


def test_the_update_is_the_formula_of_its_paper():
    torch.manual_seed(0)
    layer, x = nn.Linear(6, 5), torch.randn(4, 6)
    base = layer(x)
    lk.inject(nn.Sequential(layer), {"0": 3}, method=lk.AdaLoRA(alpha=10))
    update = layer.lora.a0.low_rank
    assert update.rank == 5  # 1.5 * 3, rounded up
    assert update.goal == 3
    assert torch.equal(layer(x), base)
    eye = torch.eye(5)
    torch.testing.assert_close(update.A @ update.A.T, eye, atol=1e-6, rtol=0)
    torch.testing.assert_close(update.B.T @ update.B, eye, atol=1e-6, rtol=0)
    with torch.no_grad():
        update.e.copy_(torch.randn(5))
    change = 10 / 5 * update.B @ torch.diag(update.e) @ update.A
    torch.testing.assert_close(layer(x), base + x @ change.T)


def test_the_penalty_is_zero_at_the_start_and_pulls_back():
    model, _ = small()
    method = lk.AdaLoRA(gamma=0.5)
    updates = singular(model, "default").values()
    eye = torch.eye(6)
    expected = sum(
        (f - eye).square().sum().item() for u in updates for f in (u.A @ u.A.T, u.B.T @ u.B)
    )
    assert method.penalty(model, "default").item() == pytest.approx(0.5 * expected)
    assert expected > 1
    own = [p for u in updates for p in (u.A, u.B)]
    optimizer = torch.optim.SGD(own, lr=0.02)
    for _ in range(400):
        optimizer.zero_grad()
        method.penalty(model, "default").backward()
        optimizer.step()
    assert method.penalty(model, "default").item() < 1e-3
    fresh = nn.Sequential(nn.Linear(9, 8))
    lk.inject(fresh, {"0": 4}, method=method)
    assert method.penalty(fresh, "default").item() < 1e-9


def test_ranks_are_judged_as_in_the_paper():
    """Section 3.2: smoothed |w dL/dw| times its smoothed deviation, vectors on average."""
    method = lk.AdaLoRA(beta1=0.7, beta2=0.6, tinit=1.0, tfinal=0.0)
    model, x = small()
    update = singular(model, "default")["0"]
    means = {name: torch.zeros_like(getattr(update, name)) for name in ("A", "B", "e")}
    spreads = {name: value.clone() for name, value in means.items()}
    for step in range(1, 4):
        model(x).square().mean().backward()
        for name in means:
            value = getattr(update, name)
            felt = (value * value.grad).abs().detach()
            means[name] = 0.7 * means[name] + 0.3 * felt
            spreads[name] = 0.6 * spreads[name] + 0.4 * (felt - means[name]).abs()
        assert method.step(model, "default", step, 9) is None
        model.zero_grad()
        with torch.no_grad():
            update.e.add_(0.05)
    s = {name: means[name] * spreads[name] for name in means}
    expected = [s["e"][k] + s["A"][k].mean() + s["B"][:, k].mean() for k in range(update.rank)]
    torch.testing.assert_close(update.scores(), torch.stack(expected))


@pytest.mark.parametrize(("tinit", "tfinal", "delta_t"), [(0.1, 0.4, 10), (0, 0, 1), (0.5, 0.5, 3)])
def test_the_budget_falls_and_stays(tinit, tfinal, delta_t):
    method = lk.AdaLoRA(tinit=tinit, tfinal=tfinal, delta_t=delta_t)
    found = [method.budget(step, 100, 60, 40) for step in range(1, 101)]
    budgets = [budget for budget, _ in found]
    assert budgets == sorted(budgets, reverse=True)
    assert set(budgets[: round(100 * tinit)]) <= {60}
    assert set(budgets[100 - round(100 * tfinal) :]) <= {40}
    assert found[-1] == (40, True)
    assert not any(due for _, due in found[: round(100 * tinit)])


def test_the_budget_is_that_of_peft():
    peft = pytest.importorskip("peft")
    config = peft.AdaLoraConfig(
        target_modules=["0", "2"], init_r=6, target_r=4, tinit=15, tfinal=40, deltaT=7,
        total_step=150,
    )  # fmt: skip
    model = peft.get_peft_model(nn.Sequential(nn.Linear(9, 8), nn.Tanh(), nn.Linear(8, 7)), config)
    allocator = model.base_model.rankallocator
    method = lk.AdaLoRA(tinit=0.1, tfinal=40 / 150, delta_t=7)
    for step in range(1, 151):
        theirs, due = allocator.budget_schedule(step)
        assert method.budget(step, 150, 12, 8) == (theirs, due)


def test_scores_and_choice_are_those_of_peft():
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    model, _ = small()
    plain = nn.Sequential(nn.Linear(9, 8), nn.Tanh(), nn.Linear(8, 7))
    config = peft.AdaLoraConfig(
        target_modules=["0", "2"], init_r=6, target_r=4, tinit=0, tfinal=2, deltaT=1, total_step=9
    )
    theirs = peft.get_peft_model(plain, config)
    method = lk.AdaLoRA(tinit=0, tfinal=2 / 9, delta_t=1)
    pairs = []
    for path, update in singular(model, "default").items():
        layer = theirs.base_model.model.get_submodule(path)
        for name in ("A", "B", "E"):
            pairs.append((getattr(update, name.replace("E", "e")), getattr(layer, f"lora_{name}")))
    generator = torch.Generator().manual_seed(1)
    for step in range(1, 7):  # at 7 theirs chooses without the step's own gradients
        for mine, other in pairs:
            with torch.no_grad():
                mine.copy_(torch.randn(mine.shape, generator=generator))
                other["default"].copy_(mine.view_as(other["default"]))
            mine.grad = torch.randn(mine.shape, generator=generator)
            other["default"].grad = mine.grad.view_as(other["default"]).clone()
        kept, pattern = theirs.base_model.rankallocator.update_and_allocate(theirs, step)
        assert method.step(model, "default", step, 9) == kept
        for path, update in singular(model, "default").items():
            masks = [mask for name, mask in pattern.items() if f".{path}." in name]
            assert update.kept.tolist() == masks[0]
            layer = theirs.base_model.model.get_submodule(path)
            assert torch.equal(update.e, layer.lora_E["default"].view(-1))


class Answer(nn.Module):
    """A model whose answer has a loss, of zero, to which PEFT adds its penalty."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(9, 8)

    def forward(self, x):
        return SimpleNamespace(loss=self.layer(x).sum() * 0)


def test_the_penalty_is_that_of_peft_for_one_factor():
    """Theirs is the mean of the norms, the paper's the sum of their squares."""
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    config = peft.AdaLoraConfig(target_modules=["layer"], init_r=6, target_r=4, total_step=9)
    theirs = peft.get_peft_model(Answer(), config)
    model, method = Answer(), lk.AdaLoRA()
    lk.inject(model, {"layer": 4}, method=method)
    (update,) = singular(model, "default").values()
    layer = theirs.base_model.model.layer
    with torch.no_grad():
        update.A.add_(torch.randn(6, 9))
        layer.lora_A["default"].copy_(update.A)
        layer.lora_B["default"].copy_(update.B)  # orthonormal: it counts nothing
    told = theirs.base_model(torch.randn(2, 9)).loss.item() / config.orth_reg_weight
    found = method.penalty(model, "default").item() / method.gamma
    assert found == pytest.approx((2 * told) ** 2, rel=1e-4)
    assert found > 1


def test_training_ends_with_the_plans_ranks():
    method = lk.AdaLoRA(tinit=0.1, tfinal=0.3, delta_t=5)
    model, x = small()
    told = trained(model, x, 40, method)
    assert all(n is None for n in told[:4])
    chosen = [n for n in told if n is not None]
    assert chosen == sorted(chosen, reverse=True)
    assert set(told[28:]) == {8}
    left = {target: int((u.e != 0).sum()) for target, u in singular(model, "default").items()}
    assert sum(left.values()) == 8
    low = capture(model, "default").low_rank
    assert {target: own.rank for target, own in low.items()} == left


def test_what_was_pruned_is_a_plain_lora_of_fewer_ranks(tmp_path):
    method = lk.AdaLoRA(tinit=0.0, tfinal=0.3, delta_t=2)
    model, x = small()
    trained(model, x, 30, method)
    for update in (singular(model, "default")["0"],):  # a whole layer may go
        update.prune(torch.zeros(update.rank, dtype=torch.bool))
    lk.save(model, tmp_path / "a")
    torch.manual_seed(0)
    other = nn.Sequential(nn.Linear(9, 8), nn.Tanh(), nn.Linear(8, 7))
    lk.load(other, tmp_path / "a")
    torch.testing.assert_close(other(x), model(x), rtol=1e-5, atol=1e-6)
    about = lk.inspect(tmp_path / "a")
    assert [layer.path for layer in about.layers] == ["2"]
    assert about.layers[0].scale == pytest.approx(8 / 6)
    with lk.merged(model):
        torch.testing.assert_close(other(x), model(x), rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_peft_reads_what_was_pruned(tmp_path):
    peft = pytest.importorskip("peft")
    model = build("llama")
    method = lk.AdaLoRA(delta_t=1, tinit=0, tfinal=0.5)
    lk.inject(model, lk.plan(model, ["q", "up"], 2), method=method)
    randomise(model, "default", scale=0.2)
    batch = inputs(model)
    for step in (1, 2, 3, 4):
        model(**batch, labels=batch["input_ids"]).loss.backward()
        method.step(model, "default", step, 4)
        model.zero_grad()
    lk.save(model, tmp_path / "a")
    theirs = peft.PeftModel.from_pretrained(build("llama"), tmp_path / "a").eval()
    with torch.no_grad():
        expected, found = model(**batch).logits, theirs.base_model.model(**batch).logits
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_progress_holds_all_that_training_goes_on_from():
    method = lk.AdaLoRA(delta_t=3)
    model, x = small()
    trained(model, x, 40, method, until=22)
    kept = {key: value.detach().clone() for key, value in progress(model, "default").items()}
    trained(model, x, 40, method, first=23)
    expected = {key: value.detach().clone() for key, value in progress(model, "default").items()}
    again, _ = small()
    with torch.no_grad():
        for key, value in progress(again, "default").items():
            value.copy_(kept[key])
    trained(again, x, 40, method, first=23)
    found = progress(again, "default")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], value) for key, value in expected.items())
    assert any(not torch.equal(kept[key], value) for key, value in expected.items())


def test_norms_alone_have_nothing_to_prune():
    model = build("llama")
    method = lk.AdaLoRA()
    lk.inject(model, lk.plan(model, "norms"), method=method)
    assert method.penalty(model, "default").item() == 0
    assert method.step(model, "default", 1, 10) is None


def test_a_step_without_gradients_says_so():
    model, _ = small()
    with pytest.raises(TrainingError, match="before `zero_grad`"):
        lk.AdaLoRA().step(model, "default", 1, 10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rslora": True}, "one scale"), ({"init": "pissa"}, "one way"), ({"grow": 0.5}, "grow"),
        ({"tinit": 0.7, "tfinal": 0.6}, "no more than 1"), ({"tinit": -0.1}, "tinit"),
        ({"beta1": 1.0}, "below 1"), ({"gamma": math.nan}, "gamma"), ({"delta_t": 0}, "delta_t"),
        ({"delta_t": 2.5}, "delta_t"),
    ],
)  # fmt: skip
def test_odd_options_are_refused(options, message):
    with pytest.raises(PlanError, match=message):
        lk.AdaLoRA(**options)


def test_what_has_no_singular_values_of_its_own_is_refused():
    model = build("mixtral")
    with pytest.raises(UnsupportedError, match="fused experts"):
        lk.inject(model, lk.plan(model, "experts", 2), method=lk.AdaLoRA())
    layer = nn.Sequential(nn.Linear(4, 9))
    with pytest.raises(PlanError, match="at most 4"):
        lk.inject(layer, {"0": 5}, method=lk.AdaLoRA())
    lk.inject(layer, {"0": 4}, method=lk.AdaLoRA())
    assert layer[0].lora.a0.low_rank.rank == 4
    assert lk.adapters(model) == ()
