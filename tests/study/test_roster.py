"""The methods that are compared: what their names set in a recipe."""

from __future__ import annotations

import pytest

from lorakit.core.errors import RecipeError
from lorakit.methods import method_named
from lorakit.study.roster import ROSTER, entry_named
from lorakit.study.train import overridden


def test_names_with_and_without_a_size():
    assert entry_named("lora") is ROSTER["lora"]
    own = entry_named("lora:4")
    assert (own.name, own.family, own.method) == ("lora:4", "low rank", "lora")
    assert own.lora == {"rank": 4, "alpha": 8, "targets": ["q", "v"]}
    assert entry_named("houlsby:64").lora == {"rank": 64}
    assert ROSTER["lora"].lora["rank"] == 8  # and the entry itself is as it was


@pytest.mark.parametrize(("said", "words"), [
    ("lorra", "lora"), ("bitfit:3", "has a size"), ("lora:", "whole number"),
    ("lora:0", "whole number"), ("lora:-2", "whole number"), ("lora:x", "whole number"),
    ("", "no method"),
])  # fmt: skip
def test_mistakes_are_told(said, words):
    with pytest.raises(RecipeError, match=words):
        entry_named(said)


@pytest.mark.parametrize("name", ROSTER)
def test_every_entry_makes_a_recipe(name, recipe, tmp_path):
    own = ROSTER[name]
    assert own.name == name
    made = overridden(recipe, own.overrides, tmp_path)
    assert made.method == own.method == method_named(own.method).name
    assert made.lora.targets == own.lora.get("targets")  # and not those of the recipe
