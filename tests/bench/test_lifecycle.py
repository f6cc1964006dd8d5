"""The stages are measured on what they say; how fast they are, no test asks."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lorakit.bench import lifecycle, stages, timing
from lorakit.bench.bases import Shape, batch
from lorakit.bench.kinds import KINDS
from lorakit.bench.stages import Case, Pair
from lorakit.core.activate import activate
from lorakit.core.inject import adapters
from lorakit.core.merge import merge
from lorakit.core.registry import registry_of

pytestmark = pytest.mark.filterwarnings("ignore")
TINY = Shape(width=32, layers=1, rows=1, length=4, vocabulary=32)


def tiny(case: Case) -> Case:
    return replace(
        case, shape=TINY, rank=2, present=min(case.present, 3), cycles=min(case.cycles, 3)
    )


def logits(pair: Pair, model) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=batch(TINY, pair.base)["input_ids"]).logits


@pytest.mark.parametrize("case", lifecycle.cases(), ids=str)
def test_every_stage_is_measured_and_named(case):
    row = KINDS["lifecycle"].measure(tiny(case), rounds=2, device="cpu")
    assert row.case.startswith(f"{case.stage}, 7 layers of d 32, r 2, {case.precision}")
    assert row.goal == case.goal
    assert (row.reached is None) == (case.goal is None)
    assert "lorakit" in row.values
    assert ("PEFT" in row.values) == (case.stage not in ("register", "forward"))


def test_every_stage_has_a_row():
    assert {case.stage for case in lifecycle.cases()} == set(stages.STAGES)


def test_what_is_done_around_a_turn_is_not_timed():
    order: list[str] = []

    def say(word):
        return lambda: order.append(word)

    around = {"before": {"a": say("(")}, "after": {"a": say(")")}}
    timings = timing.interleave({"a": say("a"), "b": say("b")}, 1, warmup=0, **around)
    assert "".join(order) in ("(a)b", "b(a)")
    assert all(len(own.seconds) == 1 for own in timings.values())


def test_an_injection_is_told_for_each_layer():
    row = lifecycle.measure(Case("inject", TINY, rank=2, present=2), rounds=2)
    whole, each = row.values["lorakit"], row.values["lorakit, a layer"]
    assert isinstance(whole, stages.Amount)
    assert isinstance(each, stages.Amount)
    assert each.number == pytest.approx(whole.number / 7) == row.reached


def test_only_a_proved_adapter_is_hashed():
    case = Case("load, foreign", TINY, rank=2, goal=3)
    foreign = lifecycle.measure(case, rounds=2)
    proved = lifecycle.measure(replace(case, stage="load, proved"), rounds=2)
    assert "sha256 alone" in proved.values
    assert "sha256 alone" not in foreign.values
    assert foreign.case.endswith("MB")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_both_libraries_have_the_same_adapter_and_the_floor_is_the_same_sum(precision):
    pair = Pair(Case("merge", TINY, rank=2, precision=precision), "cpu")
    pair.train()
    mine, theirs, base = logits(pair, pair.ours), logits(pair, pair.peft), logits(pair, pair.base)
    close = {"rtol": 0.05, "atol": 0.05} if precision == "bf16" else {}
    torch.testing.assert_close(mine, theirs, **close)
    assert not torch.equal(mine, base)
    sums = stages._sums(pair)
    merge(pair.ours)
    held = [pair.ours.get_submodule(path).weight for path in pair.plan]
    assert all(torch.equal(one, two) for one, two in zip(sums, held, strict=True))


def test_changed_bits_are_counted():
    pair = Pair(Case("bits", TINY, rank=2), "cpu")
    assert stages.changed(pair.base, pair.ours, pair.plan) == 0
    assert stages.changed(pair.base, pair.peft.get_base_model(), pair.plan) == 0
    path = next(iter(pair.plan))
    with torch.no_grad():
        pair.ours.get_submodule(path).weight[0, 0] += 1
    weights = sum(pair.base.get_submodule(path).weight.numel() for path in pair.plan)
    assert stages.changed(pair.base, pair.ours, pair.plan) == 1 / weights


def test_bits_come_back_from_every_cycle_of_ours_and_not_from_the_peers():
    row = lifecycle.measure(Case("bits", TINY, precision="bf16", cycles=3, goal=0.0))
    assert row.reached == 0
    assert row.met
    assert isinstance(row.values["PEFT"], stages.Amount)
    assert 0 < row.values["PEFT"].number < 100


def test_a_forward_is_that_of_one_adapter_however_many_there_are(monkeypatch):
    seen: dict[str, Pair] = {}
    plain = stages.interleave

    def watch(ways, rounds, **options):
        for name, way in ways.items():
            seen[name] = way.args[0]
        return plain(ways, rounds, **options)

    monkeypatch.setattr(stages, "interleave", watch)
    row = lifecycle.measure(Case("forward", TINY, rank=2, present=4), rounds=2)
    assert isinstance(row.values["lorakit"], timing.Ratio)
    assert [len(adapters(seen[name])) for name in ("floor", "lorakit")] == [1, 4]
    routes = [registry_of(model).active for model in seen.values()]
    assert routes[0] == routes[1]


def test_what_is_registered_is_held():
    row = lifecycle.measure(Case("register", TINY, rank=2, present=4))
    memory, factors = row.values["lorakit, memory"], row.values["factors alone"]
    assert isinstance(memory, stages.Amount)
    assert isinstance(factors, stages.Amount)
    assert memory.number > factors.number > 0


def test_a_switch_is_between_two_adapters():
    pair = Pair(Case("activate", TINY, rank=2), "cpu", adapters=2)
    pair.train()
    one = logits(pair, pair.ours)
    activate(pair.ours, "1")
    assert not torch.equal(one, logits(pair, pair.ours))
    assert list(pair.peft.peft_config) == ["default", "1"]
