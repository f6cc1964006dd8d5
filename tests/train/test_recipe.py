from __future__ import annotations

import pytest
import yaml

from lorakit.core.errors import RecipeError
from lorakit.train.recipe import (
    fields,
    make_recipe,
    parse_overrides,
    parse_recipe,
    read_recipe,
)

SMALL = {"model": "m", "task": "completion", "data": {"train": "t"}, "output": "o"}


def test_numbers_as_yaml_writes_them(tmp_path):
    file = tmp_path / "r.yaml"
    file.write_text("model: m\ntask: text\ndata: {train: t}\ntrain: {lr: 1e-2}\noutput: o\n")
    assert read_recipe(file).train.lr == 0.01


def test_flags_win_over_the_file(tmp_path):
    file = tmp_path / "r.yaml"
    file.write_text(yaml.safe_dump({**SMALL, "lora": {"rank": 2}}))
    flags = ["--lora.rank", "4", "--train.lr=5e-3", "--lora.targets", "[q, v]", "--output", "x"]
    recipe = read_recipe(file, parse_overrides(flags))
    assert (recipe.lora.rank, recipe.train.lr) == (4, 0.005)
    assert (recipe.lora.targets, recipe.output) == (["q", "v"], "x")


@pytest.mark.parametrize("text", ["{mr}\n", "yes", "12", "a: b"])
def test_flags_of_text_stay_text(text):
    assert parse_overrides(["--data.prompt", text]) == {"data.prompt": text}


def test_a_dumped_recipe_is_the_same_recipe(tmp_path):
    recipe = make_recipe({**SMALL, "lora": {"rank": {"*.0.*": 4, "*": 2}, "alpha": 2.5}})
    file = tmp_path / "r.yaml"
    file.write_text(recipe.dump())
    assert read_recipe(file) == recipe


def test_every_field_is_described():
    for name, field in fields().items():
        assert field.description or name == "task", name


def test_text_that_is_nested_without_end_is_refused():
    with pytest.raises(RecipeError, match="nested too deeply"):
        parse_recipe("a: " + "[" * 5000)
