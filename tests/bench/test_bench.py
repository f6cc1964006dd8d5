"""The benchmark measures what it says; how fast anything is, no test asks."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest
import torch
from torch import nn

from lorakit.bench import infer, kinds, memory, mixed, modes, peak, table, timing, train
from lorakit.bench.bases import Shape, batch, make
from lorakit.bench.ways import WAYS, Choice, make_step
from lorakit.cli import app
from lorakit.core import bank
from lorakit.core.errors import PlanError

pytestmark = pytest.mark.filterwarnings("ignore")
TINY = Shape(width=64, layers=1, rows=2, length=8, vocabulary=32)
CASES = [
    train.Case(TINY, Choice(rank=2), "fp32", 1.1),
    train.Case(Shape("bert", 64, 1, 2, 8, 32), Choice(("q", "v"), 2, 0.1), "bf16"),
]


def test_interleaved_ways_are_timed_in_turns():
    order: list[str] = []
    ways = {name: (lambda name=name: order.append(name)) for name in "ab"}
    timings = timing.interleave(ways, 3, warmup=1)
    assert order == list("abbaabba") or order == list("baabbaab")
    assert all(len(timings[name].seconds) == 3 for name in "ab")


def test_ratios_are_paired():
    slow = timing.Timing([2.0, 4.0, 8.0], [])
    fast = timing.Timing([1.0, 2.0, 4.0], [])
    assert timing.ratio(slow, fast) == timing.Ratio(2.0, 2.0, 2.0)


@pytest.mark.parametrize("way", WAYS)
def test_every_way_does_one_step_of_the_same_model(way):
    base = make(TINY, torch.float32)
    given = batch(TINY, base)
    step = make_step(way, base, Choice(rank=2), given)
    table = step.model.get_input_embeddings().weight  # the input is given, not looked up
    trained = [p for p in step.model.parameters() if p.requires_grad and p is not table]
    assert bool(trained) == (not way.startswith("floor"))
    before = [p.detach().clone() for p in trained]
    step()
    step()  # B is zero at first, so that A moves in the second step
    assert all(not torch.equal(p, old) for p, old in zip(trained, before))
    fresh = make(TINY, torch.float32)
    pairs = zip(base.parameters(), fresh.parameters(), strict=True)
    assert all(torch.equal(one, two) for one, two in pairs)


def test_kept_bytes_are_counted_once():
    layer = nn.Linear(32, 32, bias=False)
    x = torch.randn(8, 32, requires_grad=True)

    def step():
        y = layer(x)
        (y.sigmoid() * y).sum().backward()

    # x, y and its sigmoid, which is saved twice; the weight is there anyway.
    assert memory.saved_bytes(step, layer) == 3 * 8 * 32 * 4


def test_the_peak_is_what_is_there_at_once():
    there = torch.zeros(2**10)

    def step():
        big = there.repeat(4)  # 16 KiB
        del big
        two = [there.clone(), there.clone()]
        (two[0] + two[1]).sum()  # 12 KiB

    assert 2**14 <= peak.peak_bytes(step) < 2**14 + 2**10


def test_chunks_of_logits_are_what_the_peak_is_measured_with():
    shape = Shape(width=64, layers=1, rows=4, length=128, vocabulary=2**15)
    case = train.Case(shape, Choice(rank=2), "bf16", 0.3)
    row = peak.measure(case, ways=["lorakit", "full"])
    assert "vocabulary 32768" in row.case
    own, full = (row.values[name].number for name in ("lorakit", "full"))
    assert own < full / 2


@pytest.mark.parametrize("mode", ["compiled", "checkpointed"])
def test_modes_are_compared_with_their_floors(mode):
    case = modes.Case(mode, TINY, Choice(rank=2), "fp32", 1.0)
    row = modes.measure(case, rounds=2, backend="eager")
    assert ("floor, compiled" in row.values) == (mode == "compiled")
    assert "lorakit" in row.values
    assert row.reached == row.values["lorakit"].middle


def test_without_a_compiler_the_row_says_so(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setattr(modes.shutil, "which", lambda name: None)
    row = modes.measure(modes.cases()[0])
    assert "no C++ compiler" in row.case
    assert row.met is None
    assert "g++" in table.table(modes.TITLE, [row])


@pytest.mark.slow
@pytest.mark.skipif(modes.compiler() is None, reason="no C++ compiler")
def test_a_step_compiles_without_a_graph_break():
    given = batch(TINY, base := make(TINY, torch.float32))
    step = make_step(
        "lorakit", base, Choice(rank=2), given,
        prepare=lambda model: torch.compile(model, fullgraph=True),
    )  # fmt: skip
    plain = make_step("lorakit", base, Choice(rank=2), given)
    for _ in range(2):
        step()
        plain()
    for own, other in zip(step.model.parameters(), plain.model.parameters(), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-3, atol=1e-5)


def test_tables_json_and_picture(tmp_path):
    rows = kinds.measure(train, CASES, rounds=2)  # type: ignore[arg-type]
    text = table.table(train.TITLE, rows)
    assert text.count("\n") == 3
    assert "lorakit" in text
    assert "floor again" in text
    assert "1.10" in text
    file = table.picture(train.TITLE, rows, tmp_path / "bars.png")
    assert file.read_bytes()[:4] == b"\x89PNG"
    longer = [replace(case, shape=replace(case.shape, rows=8, length=64)) for case in CASES]
    # Cast factors count, which on a few tokens outweigh the rest.
    kept = [memory.measure(case) for case in longer]
    assert kept[0].reached < 1.01  # x and h in both
    assert kept[1].reached < 0.5  # PEFT casts x up, and masks it
    assert "MB" in table.table(memory.TITLE, kept)
    assert table.picture(memory.TITLE, kept, tmp_path / "kept.png").stat().st_size > 1000
    odd = [table.Row("x", {"a": table.Amount(1, "ms"), "b": table.Amount(1, "MB")})]
    with pytest.raises(PlanError, match="do not compare"):
        table.picture("x", odd, tmp_path / "odd.png")
    data = json.loads(json.dumps(table.as_json({"train": rows, "memory": kept}, "cpu")))
    assert [len(own) for own in data["tables"].values()] == [2, 2]
    assert data["machine"].startswith(table.platform.machine())


def test_a_missed_goal_is_explained():
    values = {"lorakit": timing.Ratio(1.2, 1.1, 1.3)}
    rows = [table.Row("x", values, 1.1, 1.2), table.Row("y", values, 1.3, 1.2)]
    assert table.table("time", rows, "noise.").endswith("\n\nNot reached, and why: noise.")
    assert "Not reached" not in table.table("time", rows[1:], "noise.")
    for kind in kinds.KINDS.values():
        assert kind.TITLE
        assert kind.WHY.endswith(".")


def test_a_goal_is_met_by_the_figure_that_is_shown():
    values = {"lorakit": timing.Ratio(1.0949, 1.0, 1.2)}
    assert table.Row("x", values, 1.09, 1.0949).met
    assert table.Row("x", values, 1.09, 1.0951).met is False
    assert table.Row("x", values).met is None


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("stage", ["decode", "prefill"])
def test_answers_are_timed_beside_the_base(stage, merged):
    case = infer.Case(stage, "fp32", merged, 1.0, replace(TINY, rows=1), Choice(rank=2))
    row = infer.measure(case, rounds=2)
    assert list(row.values) == ["floor again", "lorakit", "PEFT"]
    assert row.reached == row.values["lorakit"].middle
    assert ("not merged" in row.case) == (not merged)


@pytest.mark.parametrize("stage", ["decode", "prefill"])
def test_every_row_of_a_mixed_batch_has_its_adapter(stage, monkeypatch):
    seen = set()
    act = bank.Bank.act
    monkeypatch.setattr(
        bank.Bank, "act", lambda self, *given: seen.add(self.adapters) or act(self, *given)
    )
    case = mixed.Case(stage, "fp32", 2.0, 3, replace(TINY, rows=6), Choice(rank=2))
    assert case.names() == 2 * ["tenant 0", "tenant 1", "tenant 2"]
    row = mixed.measure(case, rounds=2)
    assert seen == {("a0", "a1", "a2")}
    assert list(row.values) == ["floor again", "lorakit", "PEFT"]


def test_decoding_starts_from_the_same_cache_in_every_round():
    base = make(replace(TINY, rows=1), torch.float32).eval()
    lengths = []
    base.register_forward_pre_hook(
        lambda module, args, given: lengths.append(given["past_key_values"].get_seq_length()),
        with_kwargs=True,
    )
    step = infer.forward(base, base.config, infer.Case("decode", "fp32", shape=TINY))
    step()
    step()
    assert lengths == [0, *range(8, 16), *range(8, 16)]


def test_a_models_folder_can_be_measured(tmp_path):
    make(TINY, torch.float32).save_pretrained(tmp_path / "own")
    cases = kinds.with_model(kinds.KINDS["train"], [*CASES, CASES[0]], str(tmp_path / "own"))
    assert [case.goal for case in cases] == [None, None]
    assert "own, 2 x 8" in str(cases[0])
    row = train.measure(cases[0], rounds=2, ways=["floor", "lorakit"])
    assert row.met is None
    assert row.values["lorakit"].wall > 0
    with pytest.raises(PlanError, match="bases of its own"):
        kinds.with_model(kinds.KINDS["lifecycle"], [], str(tmp_path / "own"))


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no affinity")
def test_the_process_keeps_to_some_cores():
    before = os.sched_getaffinity(0)
    try:
        timing.keep_to(f"{min(before)}-{min(before)}")
        assert os.sched_getaffinity(0) == {min(before)}
        for wrong in ("9999", "one", ""):
            with pytest.raises(PlanError, match="Expected some"):
                timing.keep_to(wrong)
    finally:
        os.sched_setaffinity(0, before)


def test_the_command_measures_and_explains(monkeypatch, capsys):
    monkeypatch.setattr(train, "cases", lambda: CASES)
    monkeypatch.setattr(memory, "cases", lambda: CASES)
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    app(["bench", "train", "--case", "1", "--rounds", "2"], standalone_mode=False)
    assert "| lorakit |" in capsys.readouterr().out
    app(["bench", "memory", "--case", "2", "--json"], standalone_mode=False)
    assert json.loads(capsys.readouterr().out)["tables"]["memory"][0]["values"]["PEFT"]["value"] > 0
    for wrong, message in (
        (["speed"], "'speed' is no benchmark"),
        (["train", "--case", "3"], "row"),
        (["all", "--case", "1"], "name it"),
    ):
        with pytest.raises(PlanError, match=message):
            app(["bench", *wrong], standalone_mode=False)
