"""Ranks under a budget: what they cost, where they go, and what is refused."""

from __future__ import annotations

import copy
import json
import math

import pytest
import torch

import lorakit as lk
from families import build, inputs, randomise
from lorakit.core.errors import LorakitError, PlanError, UnsupportedError
from lorakit.models.allocate import WAYS, Allocation, allocate


def batches(model):
    found = [inputs(model, rows=4, seed=seed) for seed in range(2)]
    if model.main_input_name == "pixel_values":
        return [{**batch, "labels": torch.arange(4)} for batch in found]
    return [{**batch, "labels": batch["input_ids"]} for batch in found]


CASES = [
    ("llama", "all-linear"), ("gpt2", ["q", "v", "mlp"]), ("llama", ["norms", "q", "down"]),
    ("mixtral", ["experts", "q"]), ("resnet", ["*.convolution"]), ("t5", ["q", "embeddings"]),
]  # fmt: skip


@pytest.mark.parametrize("by", WAYS)
@pytest.mark.parametrize(("family", "targets"), CASES, ids=[case[0] for case in CASES])
def test_a_budget_is_kept_and_used_up(family, targets, by):
    model = build(family)
    given = batches(model) if family != "t5" else [
        {**batch, "decoder_input_ids": batch["input_ids"], "labels": batch["input_ids"]}
        for batch in batches(model)
    ]  # fmt: skip
    if by == "activation" and family in ("mixtral", "resnet", "t5"):
        with pytest.raises(UnsupportedError, match="matrix products"):
            allocate(model, targets, params=5000, by=by, batches=given)
        return
    plan = allocate(model, targets, params=5000, by=by, batches=given)
    assert list(plan) == list(lk.plan(model, targets, 1))
    assert plan == allocate(model, targets, params=5000, by=by, batches=given)
    report = lk.inject(model, plan)
    assert report.parameters == plan.parameters <= 5000
    left = 5000 - plan.parameters
    if by != "uniform":
        for target, own in plan.gains.items():
            if plan[target] < len(own) and own[plan[target]] > 0:
                assert plan.costs[target] > left
        assert plan.reached > 0.9
    else:
        assert left < sum(plan.costs.values())


def test_what_matters_to_the_loss_gets_the_ranks():
    """Of two equal branches one is multiplied by a hundredth before it is added up."""

    class Branches(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.loud, self.quiet = torch.nn.Linear(8, 8), torch.nn.Linear(8, 8)

        def forward(self, x):
            return (self.loud(x) + 0.01 * self.quiet(x) - 3 * x).square().mean()

    torch.manual_seed(0)
    model = Branches()
    given = [torch.randn(64, 8)]
    options = {"batches": given, "loss": lambda output: output}
    plan = lk.allocate(model, params=16 * 6, **options)
    assert dict(plan) == {"loud": 6, "quiet": 0}
    assert dict(lk.allocate(model, params=16 * 6, max_rank=4, **options)) == {"loud": 4, "quiet": 2}
    assert dict(lk.allocate(model, params=16 * 6, min_rank=2, **options)) == {"loud": 4, "quiet": 2}
    assert plan.scores["loud"] > 100 * plan.scores["quiet"]
    assert lk.inject(model, plan).parameters == 96
    assert not hasattr(model.quiet, "lora")


def test_low_rank_inputs_get_low_ranks():
    torch.manual_seed(0)
    model = torch.nn.ModuleDict({"flat": torch.nn.Linear(8, 8), "wide": torch.nn.Linear(8, 8)})
    narrow = torch.randn(50, 1) @ torch.randn(1, 8)
    model.forward = lambda x: model["wide"](x) + model["flat"](narrow[: len(x)])
    plan = allocate(model, ["flat", "wide"], params=16 * 7, by="activation",
                    batches=[torch.randn(50, 8)])  # fmt: skip
    assert dict(plan) == {"flat": 1, "wide": 6}


def test_nothing_of_the_model_is_changed():
    model = build("llama")
    lk.inject(model, lk.plan(model, "q", 2), name="there", method=lk.LoRA(dropout=0.5))
    randomise(model, "there")
    model.train()
    bare = build("llama")
    before = copy.deepcopy(model.state_dict())
    for by in WAYS:
        torch.manual_seed(3)
        state = torch.get_rng_state()
        plan = allocate(model, params=4000, by=by, batches=batches(model))
        assert torch.equal(torch.get_rng_state(), state)
        assert plan == allocate(bare, params=4000, by=by, batches=batches(bare))
    assert model.training
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert lk.adapters(model) == ("there",)


def test_it_is_printed_copied_and_kept_as_json():
    model = build("llama")
    plan = allocate(model, params=700, batches=batches(model))
    assert 0 in plan.values()
    text = str(plan)
    assert f"{plan.parameters:,} of 700 parameters by gradient" in text
    assert text.count("\n") == len(plan)
    again = Allocation.from_dict(json.loads(json.dumps(plan.as_dict())))
    assert (again, again.__dict__) == (plan, plan.__dict__)
    other = copy.deepcopy(plan)
    other["model.layers.0.mlp.up_proj"] = 9
    assert other != plan
    assert other.gains == plan.gains
    used = [rank for rank in plan.values() if rank]
    assert f"{len(used)} of 14 targets" in plan.summary()
    assert "rank 2" in allocate(model, params=2000, by="uniform").summary()


def test_quantised_bases_are_scored_as_well():
    model = build("llama", quantised="nf4")
    for by in WAYS:
        plan = allocate(model, ["q", "up"], params=1500, by=by, batches=batches(model))
        assert 0 < plan.parameters <= 1500


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"params": 40, "by": "weight"}, "the least is 48, for one rank of the cheapest"),
        ({"params": 100, "by": "uniform"}, "one rank everywhere"),
        ({"params": 900, "by": "weight", "min_rank": 2}, "min_rank everywhere"),
        ({"params": 900, "by": "gradeint"}, "Did you mean 'gradient'"),
        ({"params": 900}, "pass batches"), ({"params": 900, "by": "activation"}, "pass batches"),
        ({"params": 0, "by": "weight"}, "params is 0"),
        ({"params": 1e5, "by": "weight"}, "whole number"),
        ({"params": True, "by": "weight"}, "whole number"),
        ({"params": 900, "by": "weight", "min_rank": -1}, "min_rank"),
        ({"params": 900, "by": "weight", "max_rank": 0}, "max_rank"),
        ({"params": 9000, "by": "weight", "min_rank": 3, "max_rank": 2}, "in order"),
        ({"params": 900, "batches": []}, "no gradient reached"),
        ({"params": 900, "by": "activation", "batches": []}, "nothing went into"),
    ],
)  # fmt: skip
def test_what_is_refused(options, message):
    with pytest.raises(PlanError, match=message):
        allocate(build("llama"), **options)


def test_norms_come_first_and_count():
    model = build("llama")
    plan = allocate(model, ["norms", "k"], params=5 * 32 + 48, by="weight")
    assert plan.parameters == 5 * 32 + 48
    assert sum(rank for target, rank in plan.items() if "k_proj" in target) == 1
    with pytest.raises(PlanError, match="and the norms"):
        allocate(model, ["norms", "k"], params=5 * 32 + 47, by="weight")
    assert allocate(model, "norms", params=160, by="weight").parameters == 160


def test_odd_weights_and_data_are_refused():
    model = build("llama")
    layer = model.model.layers[1].mlp.up_proj
    layer.weight.data[0, 0] = math.nan
    for by in ("gradient", "activation", "weight"):
        with pytest.raises(LorakitError, match="not finite"):
            allocate(model, params=900, by=by, batches=batches(model))
    with torch.device("meta"):
        bare = build("llama")
    with pytest.raises(PlanError, match="by='uniform'"):
        allocate(bare, params=900, by="weight")
    assert allocate(bare, params=1900, by="uniform").parameters <= 1900
    with pytest.raises(PlanError, match="worth anything"):
        allocate(
            build("llama"), params=900, batches=batches(build("llama")),
            loss=lambda output: output.loss * 0,
        )  # fmt: skip
    with pytest.raises(UnsupportedError, match="labels"):
        allocate(build("llama"), params=900, batches=[inputs(build("llama"))])
