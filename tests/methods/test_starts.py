"""Starts that look at data or at weights in full: EVA, LoRA-GA and LoftQ."""

from __future__ import annotations

import math
import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import lorakit as lk
from families import build, inputs
from lorakit.core.errors import PlanError, UnsupportedError
from lorakit.layers import geometry_of
from lorakit.methods.eva import Directions
from test_laws import answer, assert_same, snapshot


def batches(model, count: int = 3, rows: int = 4) -> list[dict]:
    made = [inputs(model, rows=rows, seed=seed) for seed in range(count)]
    return [{**batch, "labels": batch["input_ids"]} for batch in made]


def update_at(model, path: str, part: str = ""):
    return model.get_submodule(path).lora.a0[f"low_rank:{part}" if part else "low_rank"]


STARTS = {
    "eva": lambda model: lk.EVA(batches(model)),
    "lora-ga": lambda model: lk.LoRAGA(batches(model)),
}


@pytest.mark.parametrize("init", STARTS)
@pytest.mark.parametrize("family", ["llama", "gpt2", "bert"])
@pytest.mark.parametrize("kind", [lk.LoRA, lk.DoRA, lk.LoRAFA])
def test_looking_at_data_changes_nothing(init, family, kind):
    model = build(family).train()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    logits, before = answer(model.eval()), snapshot(model.train())
    start = STARTS[init](model)
    targets = ["qkv", "up"] if kind is lk.DoRA and family == "gpt2" else ["q", "up"]
    lk.inject(model, lk.plan(model, targets, 2), method=kind(init=start))
    torch.testing.assert_close(answer(model.eval()), logits, rtol=1e-5, atol=1e-6)
    grads = [p.grad for n, p in model.named_parameters() if ".lora." not in n]
    assert all(torch.equal(g, torch.ones_like(g)) for g in grads)
    lk.remove(model, "default")
    assert_same(before, snapshot(model.train()))


def test_eva_starts_at_the_directions_of_all_inputs():
    model = build("llama")
    given, path = batches(model), "model.layers.1.mlp.down_proj"
    given[0]["attention_mask"][0, 4:] = 0
    lk.inject(model, {path: 4}, method=lk.LoRA(init=lk.EVA(given, spare=100)))
    lk.activate(model)
    seen = []
    layer = model.get_submodule(path)
    handle = layer.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    for batch in given:
        with torch.no_grad():
            model(**batch)
    handle.remove()
    rows = torch.cat([x[batch["attention_mask"].bool()] for x, batch in zip(seen, given)])
    expected = torch.linalg.svd(rows, full_matrices=False).Vh[:4]
    found = update_at(model, path)
    torch.testing.assert_close((found.A @ expected.T).abs(), torch.eye(4), rtol=1e-3, atol=1e-3)
    assert not found.B.any()


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    width=st.integers(1, 7),
    seed=st.integers(0, 2**16),
)
def test_directions_found_in_pieces_are_those_of_the_whole(sizes, width, seed):
    numbers = torch.Generator().manual_seed(seed)
    pieces = [torch.randn(size, width, generator=numbers) for size in sizes]
    seen = Directions(count=width)
    for piece in pieces:
        seen.add(piece)
    whole = torch.linalg.svdvals(torch.cat(pieces))
    torch.testing.assert_close(seen.values, whole[: len(seen.values)], rtol=1e-4, atol=1e-4)


def test_eva_deals_ranks_out_to_where_inputs_vary():
    torch.manual_seed(0)

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.flat, self.rich = nn.Linear(8, 4), nn.Linear(8, 4)

        def forward(self, x):
            return self.flat(x[:, :1] * torch.ones(8)) + self.rich(x)

    model = Two()
    start = lk.EVA([torch.randn(64, 8)])
    found = start.plan(model, {"flat": 2, "rich": 2})
    assert sum(found.values()) == 4
    assert found["flat"] == 1  # one direction explains all of it
    lk.inject(model, found, method=lk.LoRA(init=start))
    assert update_at(model, "rich").rank == 3


def test_eva_wants_as_many_directions_as_ranks():
    model = nn.Sequential(nn.Linear(8, 8))
    with pytest.raises(PlanError, match="more batches"):
        lk.inject(model, {"0": 4}, method=lk.LoRA(init=lk.EVA([torch.randn(2, 8)])))
    assert lk.adapters(model) == ()


def test_lora_ga_starts_along_the_gradient_of_the_weight():
    model = build("gpt_neox")
    given = batches(model)
    fused, down = (
        "gpt_neox.layers.0.attention.query_key_value",
        "gpt_neox.layers.1.mlp.dense_4h_to_h",
    )
    reference = build("gpt_neox")
    for batch in given:
        reference(**batch).loss.backward()
    plan = lk.plan(model, ["v", "down"], 3)
    lk.inject(model, plan, method=lk.LoRA(init=lk.LoRAGA(given), alpha=6))
    values = update_at(model, fused, "v")
    for update, path in ((values, fused), (update_at(model, down), down)):
        G = reference.get_submodule(path).weight.grad
        G = G if update.outputs is None else G[update.outputs]
        U, _, Vh = torch.linalg.svd(G, full_matrices=False)
        size = len(G) ** 0.25 / 16**0.5
        torch.testing.assert_close(
            (update.A @ Vh[:3].T / size).abs(), torch.eye(3), rtol=1e-3, atol=1e-3
        )
        torch.testing.assert_close(
            (U[:, 3:6].T @ update.B / size).abs(), torch.eye(3), rtol=1e-3, atol=1e-3
        )
        assert torch.equal(update.A, update.A0)


def test_the_first_step_of_lora_ga_is_nearer_to_that_of_full_fine_tuning():
    """What the method is for: s (B dA + dB A) is the best of its rank to follow the gradient."""
    alignment = {}
    for init in ("default", "lora-ga"):
        torch.manual_seed(0)
        model = build("llama")
        given, path = batches(model), "model.layers.0.mlp.up_proj"
        start = lk.LoRAGA(given) if init == "lora-ga" else init
        lk.inject(model, {path: 4}, method=lk.LoRA(init=start))
        update = update_at(model, path)
        before = update.delta(torch.float64, torch.device("cpu"))
        for batch in given:
            model(**batch).loss.backward()
        with torch.no_grad():
            update.A -= 1e-3 * update.A.grad
            update.B -= 1e-3 * update.B.grad
        moved = update.delta(torch.float64, torch.device("cpu")) - before
        full = build("llama")
        for batch in given:
            full(**batch).loss.backward()
        G = full.get_submodule(path).weight.grad.double()
        alignment[init] = float(-(moved * G).sum() / moved.norm() / G.norm())
    assert alignment["lora-ga"] > alignment["default"] + 0.2


def test_lora_ga_says_what_it_lacks():
    model = build("llama")
    plan = lk.plan(model, "up", 2)
    with pytest.raises(UnsupportedError, match="labels"):
        lk.inject(model, plan, method=lk.LoRA(init=lk.LoRAGA([inputs(model)])))
    with pytest.raises(PlanError, match="no gradient"):
        lk.inject(model, plan, method=lk.LoRA(init=lk.LoRAGA([])))
    constant = lk.LoRAGA(batches(model), loss=lambda output: torch.ones(()))
    with pytest.raises(PlanError, match="no gradient"):
        lk.inject(model, plan, method=lk.LoRA(init=constant))
    with pytest.raises(PlanError, match="Lower the rank"):
        lk.inject(model, dict.fromkeys(plan, 17), method=lk.LoRA(init=lk.LoRAGA(batches(model))))
    assert lk.adapters(model) == ()


@pytest.mark.parametrize("init", STARTS)
def test_a_table_of_embeddings_has_no_such_start(init):
    model = build("llama")
    with pytest.raises(UnsupportedError, match="matrix products"):
        lk.inject(model, lk.plan(model, "embeddings", 2), method=lk.LoRA(init=STARTS[init](model)))


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_loftq_makes_up_for_what_quantising_took(family):
    full, packed = build(family), build(family, quantised="nf4")
    lk.inject(packed, lk.plan(packed, ["all-linear"], 4), method=lk.LoRA(init=lk.LoftQ(full)))
    for path in lk.plan(full, "all-linear", 4):
        weight = geometry_of(full.get_submodule(path)).matrix(full.get_submodule(path))
        layer = packed.get_submodule(path)
        lost = (weight - geometry_of(layer).matrix(layer)).detach()
        delta = update_at(packed, path).delta(torch.float32, torch.device("cpu"))
        torch.testing.assert_close(
            (lost - delta).norm(), torch.linalg.svdvals(lost)[4:].norm(), rtol=1e-3, atol=1e-5
        )
        assert (lost - delta).norm() < 0.9 * lost.norm()
    gap = (answer(packed) - answer(full)).norm()
    with lk.use(packed):
        bare = (answer(packed) - answer(full)).norm()
    assert gap < bare


def test_loftq_takes_tensors_and_parts():
    full, packed = build("gpt2"), build("gpt2", quantised="int8")
    weights = dict(full.state_dict())
    lk.inject(packed, lk.plan(packed, ["q", "v"], 4), method=lk.LoRA(init=lk.LoftQ(weights)))
    assert (answer(packed) - answer(full)).norm() > 0
    path = "transformer.h.0.attn.c_attn"
    values = update_at(packed, path, "v")
    layer = packed.get_submodule(path)
    lost = full.get_submodule(path).weight.T - geometry_of(layer).matrix(layer)
    part = values.scale * values.B @ values.A
    gap = (lost[values.outputs] - part).norm()
    torch.testing.assert_close(gap, torch.linalg.svdvals(lost[values.outputs])[4:].norm())


def test_loftq_refuses_other_weights():
    plain, packed = build("llama"), build("llama", quantised="nf4")
    plan = lk.plan(plain, "q", 2)
    with pytest.raises(UnsupportedError, match="not quantised"):
        lk.inject(plain, plan, method=lk.LoRA(init=lk.LoftQ(plain)))
    with pytest.raises(PlanError, match="not those that were quantised"):
        lk.inject(packed, plan, method=lk.LoRA(init=lk.LoftQ(build("llama", seed=1))))
    with pytest.raises(PlanError, match="found nothing"):
        lk.inject(packed, plan, method=lk.LoRA(init=lk.LoftQ({})))


@pytest.mark.parametrize("name", ["eva", "lora-ga", "loftq"])
def test_a_start_that_needs_something_says_so(name):
    with pytest.raises(PlanError, match="pass lk"):
        lk.LoRA(init=name)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("init", STARTS)
def test_a_start_from_data_is_saved_for_the_untouched_base(init, tmp_path):
    import peft

    model = build("llama")
    lk.inject(model, lk.plan(model, ["q", "up"], 2), method=lk.LoRA(init=STARTS[init](model)))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora." in name:
                parameter += 0.1
    expected = answer(model)
    lk.save(model, tmp_path / "a")
    theirs = peft.PeftModel.from_pretrained(build("llama"), tmp_path / "a").eval()
    torch.testing.assert_close(answer(theirs.base_model.model), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("init", STARTS)
def test_other_threads_neither_shape_a_start_nor_feel_it(init):
    quiet, busy = build("llama"), build("llama")
    lk.inject(quiet, lk.plan(quiet, "up", 2), method=lk.LoRA(init=STARTS[init](quiet)))
    wrong: list[Exception] = []

    def ask():
        try:
            with torch.no_grad():
                busy(torch.full((2, 5), 7))
        except RuntimeError as error:
            wrong.append(error)

    def given():
        for batch in batches(busy):
            thread = threading.Thread(target=ask)
            thread.start()
            thread.join()
            yield batch

    start = lk.EVA(given()) if init == "eva" else lk.LoRAGA(given())
    lk.inject(busy, lk.plan(busy, "up", 2), method=lk.LoRA(init=start))
    assert not wrong
    for path in lk.plan(quiet, "up", 2):
        assert torch.equal(update_at(quiet, path).A, update_at(busy, path).A)


def test_a_mask_is_that_of_the_layers_own_side():
    model = build("t5")
    batch = inputs(model, rows=4)
    batch["decoder_input_ids"] = batch["input_ids"]
    path = "decoder.block.0.layer.0.SelfAttention.q"
    found = []
    for mask in (torch.ones_like(batch["input_ids"]), torch.eye(4, 7).long()):
        other = build("t5")
        given = [{**batch, "attention_mask": mask}]
        # Only the decoder's first layer: what it gets does not depend on the encoder.
        lk.inject(other, {path: 2}, method=lk.LoRA(init=lk.EVA(given)))
        found.append(update_at(other, path).A)
    torch.testing.assert_close(found[0], found[1])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: lk.EVA([], spare=0.2), "spare"), (lambda: lk.EVA([], spare=math.inf), "spare"),
        (lambda: lk.LoRAGA([], gamma=-16), "gamma"), (lambda: lk.LoRAGA([], gamma=0), "gamma"),
        (lambda: lk.LoftQ("folder"), "Load it first"), (lambda: lk.LoRA(init=5), "init is 5"),
        (lambda: lk.LoRA(init=lk.EVA), "init is"),
    ],
)  # fmt: skip
def test_odd_options_are_refused(make, message):
    with pytest.raises(PlanError, match=message):
        make()


def test_odd_data_is_refused():
    model = nn.Sequential(nn.Linear(6, 6))
    poison = [torch.full((9, 6), math.nan)]
    with pytest.raises(PlanError, match="not finite"):
        lk.inject(model, {"0": 2}, method=lk.LoRA(init=lk.EVA(poison)))
    with pytest.raises(PlanError, match="not finite"):
        lk.inject(model, {"0": 2}, method=lk.LoRA(init=lk.LoRAGA(poison, loss=torch.sum)))
    with pytest.raises(PlanError, match="several numbers"):
        lk.inject(
            model, {"0": 2}, method=lk.LoRA(init=lk.LoRAGA([torch.ones(2, 6)], loss=torch.tanh))
        )
    with pytest.raises(PlanError, match="directions in all"):
        lk.EVA([]).plan(model, {"0": 2})
    model[0].weight.data[0, 0] = math.nan
    with pytest.raises(PlanError, match="not finite"):
        lk.inject(model, {"0": 2}, method=lk.LoRA(init="pissa"))
    assert lk.adapters(model) == ()
