"""The search for a learning rate: its budget, its rungs, and what it never looks at."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest

from lorakit.core.errors import RecipeError, ResumeError, TrainingError
from lorakit.study import tune as module
from lorakit.study.ledger import key_of
from lorakit.study.train import Trained
from lorakit.study.tune import LR, TRIALS, Budget, tune

pytest.importorskip("optuna")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:torch.*")
SMALL = Budget(trials=4, rungs=(0.5, 1.0), keep=2, low=1e-4, high=1e-1)


@pytest.fixture
def bowl(monkeypatch):
    """Runs are answered by a function of rate and steps, best at 3e-3; what was asked is kept."""
    asked: list[dict] = []

    def answer(recipe, overrides, folder, *, quiet=False):
        found = []
        for own in overrides:
            asked.append(own)
            away = abs(math.log10(own[LR] / 3e-3))
            metrics = {"eval_loss": 1 + away + 1 / own["train.steps"]}
            found.append(
                TrainingError("loss is no number") if own[LR] > 0.09
                else Trained(own, metrics, Path(folder))
            )  # fmt: skip
        return found

    monkeypatch.setattr(module, "train_cells", answer)
    return asked


def with_steps(recipe, steps):
    return recipe.model_copy(update={"train": recipe.train.model_copy(update={"steps": steps})})


def test_the_budget_is_what_it_says():
    budget = Budget(trials=9, rungs=(1 / 9, 1 / 3, 1.0))
    assert [budget.survivors(rung) for rung in range(3)] == [9, 3, 1]
    assert [budget.steps(90, rung) for rung in range(3)] == [10, 30, 90]
    assert budget.cost(90) == 9 * 10 + 3 * 30 + 90
    assert Budget(trials=5, low=1e-5, high=1e-1).grid() == [1e-5, 1e-4, 1e-3, 1e-2, 1e-1]
    assert Budget(trials=1, low=1e-4, high=1e-2).grid() == [1e-3]


@pytest.mark.parametrize("change", [
    {"trials": 0}, {"waves": 0}, {"keep": 1}, {"rungs": (0.5,)}, {"rungs": (1.0, 0.5)},
    {"rungs": ()}, {"low": 0.1, "high": 0.1}, {"held": 0.0}, {"low": -1.0},
])  # fmt: skip
def test_an_impossible_budget_is_refused(change):
    with pytest.raises(RecipeError, match="expected"):
        Budget(**change)


def test_rates_are_halved_and_the_best_is_found(recipe, tmp_path, bowl):
    budget = Budget(trials=9, low=1e-5, high=1e-1)
    found = tune(with_steps(recipe, 90), {"lora.rank": 1}, budget=budget, folder=tmp_path / "t")
    assert found.lr in budget.grid()
    assert found.lr == min(budget.grid(), key=lambda lr: abs(math.log10(lr / 3e-3)))
    assert found.steps == budget.cost(90)
    assert [trial.steps for trial in found.trials] == [10] * 9 + [30] * 3 + [90]
    assert not found.at_edge
    first = [trial for trial in found.trials if trial.rung == 0]
    survivors = {trial.lr for trial in found.trials if trial.rung == 1}
    assert survivors == {t.lr for t in sorted(first, key=lambda t: t.score or math.inf)[:3]}
    assert [trial.error for trial in first if trial.score is None] == ["loss is no number"]
    assert all(own["lora.rank"] == 1 for own in bowl)


def test_later_waves_look_where_it_was_good(recipe, tmp_path, bowl):
    budget = Budget(trials=6, waves=5, rungs=(1.0,), low=1e-6, high=1e-1)
    found = tune(with_steps(recipe, 9), {}, budget=budget, folder=tmp_path / "t", seed=1)
    away = [abs(math.log10(trial.lr / 3e-3)) for trial in found.trials]
    assert sum(away[-6:]) / 6 < 0.6 * sum(away[:6]) / 6
    assert abs(math.log10(found.lr / 3e-3)) <= min(away[:6])


def test_the_same_seed_asks_the_same_and_goes_on_where_it_was(recipe, tmp_path, bowl):
    budget = Budget(trials=4, waves=2, rungs=(0.5, 1.0), keep=2)
    chosen = with_steps(recipe, 10)
    whole = tune(chosen, {}, budget=budget, folder=tmp_path / "one", seed=3)
    asked = len(bowl)
    assert tune(chosen, {}, budget=budget, folder=tmp_path / "one", seed=3) == whole
    assert len(bowl) == asked  # all of it was there
    file = tmp_path / "one" / TRIALS
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:6]) + lines[6][:10])  # killed in the middle of a line
    assert tune(chosen, {}, budget=budget, folder=tmp_path / "one", seed=3) == whole
    assert len(bowl) - asked == len(lines) - 6
    other = tune(chosen, {}, budget=budget, folder=tmp_path / "two", seed=4)
    rates = [[trial.lr for trial in own.trials] for own in (whole, other)]
    assert rates[0] != rates[1]


def test_another_search_in_the_folder_is_refused(recipe, tmp_path, bowl):
    chosen = with_steps(recipe, 10)
    tune(chosen, {}, budget=SMALL, folder=tmp_path / "t")
    with pytest.raises(ResumeError, match=r"overrides\.lora"):
        tune(chosen, {"lora.rank": 1}, budget=SMALL, folder=tmp_path / "t")
    data = Path(recipe.data.train)
    data.write_text(data.read_text() + data.read_text().splitlines()[0] + "\n")
    with pytest.raises(ResumeError, match=r"data\.train"):
        tune(chosen, {}, budget=SMALL, folder=tmp_path / "t")


def test_what_cannot_be_sought_is_refused(recipe, tmp_path, bowl):
    with pytest.raises(RecipeError, match=r"train\.steps"):
        tune(with_steps(recipe, None), {}, budget=SMALL, folder=tmp_path / "t")
    with pytest.raises(RecipeError, match="sought"):
        tune(recipe, {LR: 1e-3}, budget=SMALL, folder=tmp_path / "t")
    hot = Budget(trials=2, rungs=(1.0,), low=0.0991, high=0.1)
    with pytest.raises(TrainingError, match="no number"):
        tune(recipe, {}, budget=hot, folder=tmp_path / "t")


def test_on_the_way_the_loss_decides_and_in_the_end_the_score(recipe, tmp_path, monkeypatch):
    """Short runs that are all as accurate as the commoner class are told apart by their loss."""
    losses = {1e-4: 0.69, 1e-3: 0.65, 1e-2: 0.66, 1e-1: 0.70}

    def answer(recipe, overrides, folder, *, quiet=False):
        whole = overrides[0]["train.steps"] == 10
        return [
            Trained(own, {
                "eval_accuracy": {1e-2: 0.9}.get(own[LR], 0.8) if whole else
                0.6 + 0.01 * (own[LR] == 1e-1), "eval_loss": losses[own[LR]],
            }, Path(folder))
            for own in overrides
        ]  # fmt: skip

    monkeypatch.setattr(module, "train_cells", answer)
    monkeypatch.setattr(
        module, "make_task", lambda *given: SimpleNamespace(best=("accuracy", True))
    )
    budget = Budget(trials=4, rungs=(0.5, 1.0), keep=2, low=1e-4, high=1e-1)
    found = tune(with_steps(recipe, 10), {}, budget=budget, folder=tmp_path / "t")
    assert {trial.lr for trial in found.trials if trial.rung == 1} == {1e-3, 1e-2}
    assert found.lr == 1e-2


def test_the_edge_of_what_was_tried_is_told(recipe, tmp_path, bowl):
    low = Budget(trials=3, rungs=(1.0,), low=1e-6, high=1e-4)
    assert tune(recipe, {}, budget=low, folder=tmp_path / "t").at_edge


def test_real_runs_never_see_the_evaluation_rows(recipe, tmp_path):
    Path(recipe.data.eval).unlink()  # whoever looked at it would fail
    found = tune(recipe, {"lora.rank": 1}, budget=SMALL, folder=tmp_path / "t", quiet=True)
    assert found.metric == "eval_loss"
    assert len(found.trials) == 4 + 2
    assert all(trial.score is not None for trial in found.trials)
    # 4 steps at 1e-4 do nothing to a random base, at 1e-1 a lot.
    assert found.lr >= 1e-2
    assert [path.name for path in (tmp_path / "t").iterdir()] == [TRIALS]
    told = [json.loads(line) for line in (tmp_path / "t" / TRIALS).read_text().splitlines()]
    assert "eval" not in told[0]["data"]
    assert told[0]["recipe"]["data"]["eval_share"] == SMALL.held
    assert len({key_of({"lr": e["lr"], "steps": e["steps"]}) for e in told[1:]}) == 6
