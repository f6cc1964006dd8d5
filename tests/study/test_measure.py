"""What a run is worth: the recipe of a task, the score it is compared by, and its end."""

from __future__ import annotations

import pytest
from made import write_glue

from lorakit.core.errors import RecipeError
from lorakit.study.measure import OWN, once, peaks, score_name, task_recipe
from lorakit.study.roster import ROSTER
from lorakit.study.train import overridden


def test_a_recipe_turned_to_a_benchmark_keeps_how_it_is_trained(recipe):
    assert task_recipe(recipe, OWN) is recipe
    own = task_recipe(recipe, "glue/sst2")
    assert own.task == "classification"
    assert own.data.benchmark == "glue/sst2"
    assert (own.data.train, own.data.max_length) == (recipe.data.train, recipe.data.max_length)
    assert own.data.eval is None  # the benchmark's own
    assert (own.train, own.lora, own.model) == (recipe.train, recipe.lora, recipe.model)
    assert task_recipe(recipe, "glue/stsb").task == "regression"
    with pytest.raises(RecipeError, match="glue/sst2"):
        task_recipe(recipe, "glue/sst")


def test_runs_are_compared_by_the_tasks_own_metric(recipe):
    assert score_name(recipe) == ("eval_loss", False)
    assert score_name(task_recipe(recipe, "glue/sst2")) == ("eval_accuracy", True)
    assert score_name(task_recipe(recipe, "glue/cola")) == ("eval_matthews", True)
    name, more = score_name(task_recipe(recipe, "e2e"))
    assert (name, more) == ("bleu_e2e", True)


def test_a_run_is_looked_at_once_at_its_end(recipe, tmp_path):
    own = overridden(recipe, once(recipe), tmp_path).train
    assert own.eval_every == own.save_every == own.steps
    assert not own.keep_best
    assert own.patience is None


def test_memory_is_forecast_on_the_longest_rows(recipe, tmp_path):
    ways = {name: ROSTER[name].overrides for name in ("full", "lora", "probe")}
    found = peaks(recipe, [OWN], ways)
    assert found["full"] > found["probe"] > 0
    folder = write_glue(tmp_path / "glue", cola="good film " * 12)
    data = recipe.data.model_copy(update={"train": str(folder), "eval": None})
    glue = recipe.model_copy(update={"data": data})
    short, long = (peaks(glue, [name], ways) for name in ("glue/sst2", "glue/cola"))
    assert all(long[name] > short[name] for name in ways)
    assert peaks(glue, ["glue/sst2", "glue/cola"], ways) == long
    assert peaks(glue, ["glue/rte"], ways) == {}
