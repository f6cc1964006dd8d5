"""Forgetting: nothing is lost at strength zero, more at more strength, and it is trained once."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from made import setting_of

from lorakit.core.errors import RecipeError
from lorakit.models.load import load_base, load_tokenizer
from lorakit.study import STUDIES, train
from lorakit.study.forgetting import own_texts
from lorakit.study.grid import run_study
from lorakit.train.recipe import make_recipe

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:torch.*")
SMALL = {"ranks": [2], "strengths": [0.0, 0.5, 1.0], "seeds": [0], "texts": 4, "tokens": 8}


def test_a_study_from_end_to_end(recipe, tmp_path, monkeypatch):
    counts: list[int] = []
    whole = train.train_runs
    monkeypatch.setattr(
        train, "train_runs",
        lambda recipes, **how: counts.append(len(recipes)) or whole(recipes, **how),
    )  # fmt: skip
    study = STUDIES["forgetting"]
    setting = setting_of("forgetting", tmp_path / "out", recipe, **SMALL)
    done = run_study(study, setting)
    assert not done.failed
    assert counts == [1, 1]
    found = {(r.settings["way"], r.settings["strength"]): r.figures for r in done.records}
    bases = [found[way, 0.0] for way in ("full", "rank 2")]
    assert bases[0]["task"] == pytest.approx(bases[1]["task"], rel=1e-6)
    for way in ("full", "rank 2"):
        drifts = [found[way, strength]["drift"] for strength in (0.0, 0.5, 1.0)]
        assert drifts[0] == pytest.approx(0.0, abs=1e-9)
        assert drifts[0] < drifts[1] < drifts[2]
        assert found[way, 1.0]["task"] < found[way, 0.0]["task"]
    more = replace(setting, options={**setting.options, "strengths": [0.0, 0.5, 1.0, 1.5]})
    assert len(run_study(study, more).records) == 8
    assert counts == [1, 1], "an adapter that is there is not trained again"
    assert "distance" in done.shown.findings[0]


def test_it_is_of_causal_models(recipe, tmp_path):
    raw = recipe.model_dump() | {"task": "classification"}
    raw["data"] |= {"prompt": None, "completion": None, "text": "prompt", "label": "completion"}
    setting = setting_of("forgetting", tmp_path / "out", make_recipe(raw), **SMALL)
    with pytest.raises(RecipeError, match="causal"):
        STUDIES["forgetting"].cells(setting)


def test_texts_of_the_base_are_the_same_each_time_and_leave_chance_alone(base):
    model, tokenizer = load_base(base, "causal").model.eval(), load_tokenizer(base)
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    one = own_texts(model, tokenizer, 3, 6)
    assert torch.equal(torch.rand(2), expected)
    assert one.shape == (3, 6)
    assert torch.equal(one, own_texts(model, tokenizer, 3, 6))
    assert not torch.equal(one, own_texts(model, tokenizer, 3, 6, seed=1))
