"""Many runs out of one recipe: each as it would be alone, none of them twice."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lorakit.core.errors import LorakitError, RecipeError, ResumeError
from lorakit.study import train
from lorakit.study.train import Trained, folder_name, overridden, train_cells
from lorakit.train import together
from lorakit.train.run import run

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:torch.*")
SEEDS = [{"lora.rank": 2, "train.seed": seed} for seed in (0, 1)]


def weights(adapter: Path) -> dict[str, torch.Tensor]:
    return load_file(adapter / "adapter_model.safetensors")


def test_seeds_go_side_by_side_to_the_adapters_of_lone_runs(recipe, tmp_path, monkeypatch):
    shared: list[int] = []
    step = together.step
    monkeypatch.setattr(
        together, "step",
        lambda model, kind, padding, parts: shared.append(len(parts))
        or step(model, kind, padding, parts),
    )  # fmt: skip
    found = train_cells(recipe, SEEDS, tmp_path / "cells", quiet=True)
    assert shared == [2] * 4
    for own, settings in zip(found, SEEDS, strict=True):
        assert isinstance(own, Trained)
        assert own.overrides == settings
        alone = run(overridden(recipe, settings, tmp_path / "alone"), quiet=True)
        assert own.metrics["eval_loss"] == pytest.approx(alone.metrics["eval_loss"], rel=1e-4)
        for name, value in weights(own.adapter).items():
            torch.testing.assert_close(value, weights(alone.adapter)[name], rtol=1e-5, atol=1e-5)


def test_only_what_is_asked_for_stays(recipe, tmp_path):
    own, *_ = train_cells(recipe, SEEDS[:1], tmp_path / "a", quiet=True)
    assert isinstance(own, Trained)
    assert {path.name for path in own.folder.iterdir()} == {*train.KEPT}
    own, *_ = train_cells(recipe, SEEDS[:1], tmp_path / "b", keep=(), quiet=True)
    assert isinstance(own, Trained)
    names = {path.name for path in own.folder.iterdir()}
    assert names == {"metrics.json", "recipe.yaml", "run.json"}


def test_what_is_trained_is_not_trained_again(recipe, tmp_path, monkeypatch):
    first = train_cells(recipe, SEEDS[:1], tmp_path / "cells", keep=(), quiet=True)
    asked: list[int] = []
    whole = train.train_runs
    monkeypatch.setattr(
        train,
        "train_runs",
        lambda recipes, **how: asked.append(len(recipes)) or whole(recipes, **how),
    )
    second = train_cells(recipe, SEEDS, tmp_path / "cells", keep=(), quiet=True)
    assert asked == [1]
    assert second[0] == first[0]
    # A run that was stopped before its end goes on.
    assert isinstance(second[1], Trained)
    (second[1].folder / "metrics.json").unlink()
    third = train_cells(recipe, SEEDS, tmp_path / "cells", keep=(), quiet=True)
    assert isinstance(third[1], Trained)
    assert third[1].metrics["eval_loss"] == pytest.approx(second[1].metrics["eval_loss"])
    assert asked == [1, 1]


def test_a_run_of_another_recipe_is_not_taken_for_this_one(recipe, tmp_path):
    train_cells(recipe, SEEDS[:1], tmp_path / "cells", quiet=True)
    changed = recipe.train.model_copy(update={"lr": 0.5})
    other = recipe.model_copy(update={"train": changed})
    with pytest.raises(ResumeError, match="another recipe"):
        train_cells(other, SEEDS[:1], tmp_path / "cells", quiet=True)


def test_one_that_cannot_begin_does_not_end_the_others(recipe, tmp_path):
    overrides = [*SEEDS, {"lora.targets": "no_such_layer"}]
    found = train_cells(recipe, overrides, tmp_path / "cells", quiet=True)
    assert [isinstance(own, LorakitError) for own in found] == [False, False, True]
    assert "no_such_layer" in str(found[2])


def test_overrides_are_checked_before_anything_is_trained(recipe, tmp_path):
    for overrides, words in (
        ([{"lora.rnk": 2}], "lora.rank"), ([{"train.lr": -1}], r"train\.lr"),
        ([SEEDS[0], SEEDS[0]], "same settings"),
    ):  # fmt: skip
        with pytest.raises(RecipeError, match=words):
            train_cells(recipe, overrides, tmp_path / "cells", quiet=True)
    assert not (tmp_path / "cells").exists()


def test_folders_have_names_that_a_disk_can_hold():
    plain = folder_name({"lora.rank": 8, "train.seed": 0})
    assert plain == "rank=8,seed=0"
    long = {f"lora.field{n}": "x" * 50 for n in range(20)}
    other = {**long, "lora.field19": "y"}
    assert len(folder_name(long)) <= 100
    assert folder_name(long) != folder_name(other)
    assert folder_name({}) == "recipe"


def test_a_broken_adapter_folder_is_not_a_finished_run(recipe, tmp_path):
    own, *_ = train_cells(recipe, SEEDS[:1], tmp_path / "cells", quiet=True)
    assert isinstance(own, Trained)
    told = json.loads((own.folder / "metrics.json").read_text())
    assert told == own.metrics
    shutil.rmtree(own.folder)
    again, *_ = train_cells(recipe, SEEDS[:1], tmp_path / "cells", quiet=True)
    assert isinstance(again, Trained)
    assert again.metrics["eval_loss"] == pytest.approx(own.metrics["eval_loss"])
