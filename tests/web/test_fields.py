"""The form and the file say the same recipe."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest
import yaml

from lorakit.core.errors import RecipeError
from lorakit.tasks import TASKS
from lorakit.train.recipe import make_recipe
from lorakit.web.fields import OF_TASKS, as_yaml, blame, form_fields, matters, raw_of, shown_of

KNOWN = form_fields()
GIVEN = {"model": "base", "task": "completion", "data.train": "rows.jsonl", "output": "runs/a"}
RECIPES = [
    {},
    {"lora": {"rank": 16, "alpha": 32.0, "targets": ["q", "v"]}, "train": {"lr": 1e-3}},
    {"lora": {"rank": {"*.0.*": 2, "*": 8}}, "data": {"prompt": "{mr}\n", "completion": "{ref}"}},
    {"method": "bitfit", "train": {"seed": 3, "checkpointing": True, "steps": 12}},
    {
        "data": {
            "prompt": "yes:\t{a} \\n",
            "completion": "{b}: \\d",
            "columns": ["a", "b"],
            "end": "</s>",
        }
    },
    {"lora": {"init": "pissa", "extras": ["a.b"]}, "train": {"warmup": 0.0, "schedule": "cosine"}},
]


@pytest.mark.parametrize("more", RECIPES)
def test_there_and_back(more):
    raw = {"model": "base", "task": "completion", "data": {"train": "rows.jsonl"}, "output": "o"}
    raw = {**raw, **more, "data": {"train": "rows.jsonl", **more.get("data", {})}}
    shown = shown_of(KNOWN, raw)
    again = raw_of(KNOWN, shown, {**GIVEN, "output": "o"})
    assert make_recipe(again).dump() == make_recipe(raw).dump()  # with the order of patterns
    assert make_recipe(yaml.safe_load(as_yaml(again))) == make_recipe(raw)


def test_an_empty_form_is_the_defaults():
    raw = raw_of(KNOWN, shown_of(KNOWN, raw_of(KNOWN, [None] * len(KNOWN), GIVEN)), GIVEN)
    assert raw == {
        "model": "base", "task": "completion", "data": {"train": "rows.jsonl"}, "output": "runs/a",
    }  # fmt: skip


def test_every_field_says_what_it_means():
    assert all(own.about for own in KNOWN)
    assert len({own.name for own in KNOWN}) == len(KNOWN) > 40


@pytest.mark.parametrize("text", ["{", "[1", "- : :"])
def test_text_that_is_no_value_names_its_field(text):
    shown = ["" if own.name != "lora.rank" else text for own in KNOWN]
    with pytest.raises(RecipeError, match=r"lora\.rank"):
        make_recipe(raw_of(KNOWN, _none(shown), GIVEN))


def _none(shown):
    return [None if own.choices or own.is_switch else value for own, value in zip(KNOWN, shown)]


@pytest.mark.parametrize("task", TASKS)
def test_a_task_shows_the_fields_of_data_that_it_reads(task):
    """By its source: the attributes of `options`, its helpers' included."""
    names = set()
    for module in (task, *(("classification",) if task == "regression" else ())):
        file = importlib.import_module(f"lorakit.tasks.{module}").__file__
        tree = ast.parse(Path(str(file)).read_text())
        names |= {
            own.attr for own in ast.walk(tree)
            if isinstance(own, ast.Attribute) and ast.unparse(own.value).endswith("options")
        }  # fmt: skip
    shown = {name for name in OF_TASKS[task] if matters(f"data.{name}", task=task, method="lora")}
    assert names & set().union(*OF_TASKS.values()) <= shown


def test_what_a_method_lacks_is_hidden():
    assert matters("lora.rank", task="text", method="lora")
    assert not matters("lora.rank", task="text", method="bitfit")
    assert matters("lora.rank", task="text", method="prefix")
    assert not matters("lora.dropout", task="text", method="full")
    assert not matters("train.lora_plus", task="text", method="full")
    assert not matters("data.label", task="text", method="lora")


def test_an_error_is_said_at_its_field():
    with pytest.raises(RecipeError) as caught:
        make_recipe({"model": "m", "task": "text", "data": {"train": "a"}, "output": "o",
                     "lora": {"rank": -3}})  # fmt: skip
    message = str(caught.value)
    assert blame("lora.rank", message) == "-3: input should be greater than or equal to 0."
    assert [own.name for own in KNOWN if blame(own.name, message)] == ["lora.rank"]
