"""Ranks under a budget in a run: dealt out once, kept in its folder, and taken up again."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from safetensors.torch import load_file
from test_run import adapter_bytes, stop_after

import lorakit as lk
from lorakit.core.errors import LorakitError, ResumeError
from lorakit.methods.adalora import AdaLoRA, singular
from lorakit.train import ranks
from lorakit.train.forecast import Question
from lorakit.train.heatmap import draw_heatmap
from lorakit.train.run import conduct, prepare, run
from lorakit.train.sweep import sweep

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:torch.*")
BUDGET = {"lora__targets": "all-linear", "lora__params": 3000, "lora__init_rows": 8}


def size(picture: Path) -> tuple[int, int]:
    """Width and height of a PNG, from its header."""
    data = picture.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", data[16:24])


@pytest.mark.parametrize("by", ["gradient", "activation", "weight", "uniform"])
def test_a_run_has_the_ranks_of_its_budget(by, recipe_for):
    result = run(recipe_for(**BUDGET, lora__by=by, train__steps=2), quiet=True)
    told = json.loads((result.folder / "plan.json").read_text())
    about = lk.inspect(result.adapter)
    assert about.parameters == told["parameters"] <= 3000
    found = {layer.path: layer.rank for layer in about.layers}
    assert found == {target: rank for target, rank in told["ranks"].items() if rank}
    log = (result.folder / "log.txt").read_text()
    assert f"of 3,000 parameters by {by}" in log
    assert min(size(result.folder / "ranks.png")) > 200


def test_a_run_that_died_keeps_its_ranks_without_scoring_again(recipe_for, tmp_path, monkeypatch):
    whole = run(recipe_for(**BUDGET, output=str(tmp_path / "whole")), quiet=True)
    recipe = recipe_for(**BUDGET)
    with monkeypatch.context() as patch:
        crash = stop_after(patch, 7)
        with pytest.raises(crash):
            run(recipe, quiet=True)

    def never(*args, **kwargs):
        raise AssertionError("scored again")

    monkeypatch.setattr(ranks, "allocate", never)
    resumed = run(recipe, resume=True, quiet=True)
    assert adapter_bytes(resumed.folder) == adapter_bytes(whole.folder)
    file = resumed.folder / "plan.json"
    file.write_text(file.read_text()[:40])
    with pytest.raises(ResumeError, match="damaged"):
        run(recipe, resume=True, quiet=True)


def test_a_run_that_died_before_its_plan_was_kept_makes_it_again(recipe_for, tmp_path):
    whole = run(recipe_for(**BUDGET, output=str(tmp_path / "whole")), quiet=True)
    recipe = recipe_for(**BUDGET)
    first = run(recipe, quiet=True)
    for name in ("checkpoints", "adapter"):
        for file in sorted((first.folder / name).rglob("*"), reverse=True):
            file.rmdir() if file.is_dir() else file.unlink()
    (first.folder / "plan.json").unlink()
    resumed = run(recipe, resume=True, quiet=True)
    assert adapter_bytes(resumed.folder) == adapter_bytes(whole.folder)


def test_runs_of_a_sweep_have_the_ranks_of_lone_ones(recipe_for, tmp_path):
    changes = {**BUDGET, "lora__dropout": 0.0, "train__steps": 2}
    outcomes = sweep(recipe_for(**changes, sweep={"lora.by": ["weight", "gradient"]}), quiet=True)
    for outcome, by in zip(outcomes, ("weight", "gradient")):
        assert outcome.error is None
        alone = recipe_for(**changes, lora__by=by, output=str(tmp_path / by))
        expected = json.loads((run(alone, quiet=True).folder / "plan.json").read_text())
        found = json.loads((outcome.folder / "plan.json").read_text())
        assert found["ranks"] == expected["ranks"]


def test_adalora_prunes_learns_and_resumes_to_the_same_bits(recipe_for, tmp_path, monkeypatch):
    changes = {
        "method": "adalora", "lora__rank": 2, "lora__targets": "attention",
        "train__steps": 20, "train__accumulate": 2, "train__lr": 0.1,
    }  # fmt: skip
    whole = run(recipe_for(**changes, output=str(tmp_path / "whole")), quiet=True)
    events = [json.loads(line) for line in (whole.folder / "events.jsonl").read_text().splitlines()]
    losses = [event["loss"] for event in events if "loss" in event]
    assert sum(losses[-3:]) < sum(losses[:3])
    assert whole.metrics["step"] > 12  # where ranks are those of the end
    layers = lk.inspect(whole.adapter).layers
    assert sum(layer.rank for layer in layers) == 8 * 2
    assert "16 ranks left by adalora" in (whole.folder / "log.txt").read_text()
    assert size(whole.folder / "ranks.png")
    for death in (7, 15):
        recipe = recipe_for(**changes, output=str(tmp_path / f"died {death}"))
        with monkeypatch.context() as patch:
            crash = stop_after(patch, death)
            with pytest.raises(crash):
                run(recipe, quiet=True)
        resumed = run(recipe, resume=True, quiet=True)
        assert adapter_bytes(resumed.folder) == adapter_bytes(whole.folder)
    newest = max((whole.folder / "checkpoints").iterdir())
    assert any("uncertainty" in key for key in load_file(newest / "adalora.safetensors"))


def test_adalora_in_a_sweep_is_a_lone_run_to_the_bit(recipe_for, tmp_path):
    changes = {"method": "adalora", "lora__dropout": 0.0, "train__steps": 8}
    outcomes = sweep(recipe_for(**changes, sweep={"train.seed": [0, 1]}), quiet=True)
    assert "adalora chooses ranks" in (tmp_path / "run" / "log.txt").read_text()
    alone = run(recipe_for(**changes, output=str(tmp_path / "alone"), train__seed=1), quiet=True)
    assert adapter_bytes(outcomes[1].folder) == adapter_bytes(alone.folder)


def test_the_penalty_is_the_trainers_too(recipe_for, monkeypatch):
    """Without it the vectors drift from being orthonormal."""
    changes = {"method": "adalora", "train__lr": 0.05, "train__steps": 10}
    found = []
    for weight in (1, 0):
        recipe = recipe_for(**changes, output=f"{recipe_for().output} {weight}")
        with monkeypatch.context() as patch:
            known = AdaLoRA.penalty
            patch.setattr(AdaLoRA, "penalty", lambda *given: known(*given) * weight)  # noqa: B023
            ready = prepare(recipe)
            conduct(ready, quiet=True)
        updates = singular(ready.base.model, ready.name).values()
        found.append(sum(update.skewness().item() for update in updates))
    assert found[0] < 0.5 * found[1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lora__params": 900, "lora__rank": {"q": 2, "*": 1}}, "set one"),
        ({"lora__params": 0}, "lora.params is 0"),
        ({"lora__params": 900, "lora__by": "gradeint"}, "lora.by is 'gradeint'"),
        ({"lora__params": 900, "method": "vera"}, "not for vera"),
        ({"lora__params": 900, "method": "adalora"}, "not for adalora"),
        ({"method": "adalora", "train__lora_plus": 8}, "starts at zero"),
    ],
)
def test_what_a_recipe_cannot_say(changes, message, recipe_for):
    with pytest.raises(LorakitError, match=message):
        recipe_for(**changes)


def test_a_forecast_has_no_weights_to_deal_ranks_out_by(recipe_for):
    plan, cost, _ = Question(recipe_for(**BUDGET, lora__by="uniform")).cost()
    assert cost.parameters == plan.parameters <= 3000
    with pytest.raises(LorakitError, match="lorakit train"):
        Question(recipe_for(**BUDGET)).cost()


def test_a_picture_of_many_blocks_or_one_value_is_drawn(tmp_path):
    many = {f"h.{n}.{role}": n * 0.1 for n in range(150) for role in ("q", "v")}
    draw_heatmap(many, tmp_path / "many.png")
    assert size(tmp_path / "many.png")[1] < 4000
    draw_heatmap({"h.0.q": 0}, tmp_path / "none.png", title="nothing", label="rank")
    draw_heatmap({"h.0.q": -2.5, "h.1.v": 1e-9}, tmp_path / "signs.png")
    assert size(tmp_path / "none.png")
    assert size(tmp_path / "signs.png")
