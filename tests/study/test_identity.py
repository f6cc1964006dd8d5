"""What a study is known by: the contents of all files that its runs read, wherever they lie."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from made import setting_of, write_glue

from lorakit.core.errors import ResumeError
from lorakit.study import STUDIES
from lorakit.study.grid import run_study
from lorakit.study.identity import FILE, claim
from lorakit.train.recipe import make_recipe

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:torch.*")
TINY = {"methods": ["lora"], "trials": 2, "rungs": [1.0], "low": 1e-3, "high": 1e-2}


def moved(recipe, *, train: str, evaluation: str | None, model: str | None = None):
    data = recipe.data.model_copy(update={"train": train, "eval": evaluation})
    raw = recipe.model_copy(update={"data": data, "model": model or recipe.model}).model_dump()
    raw["train"]["steps"] = 2
    if evaluation is None:
        raw |= {"task": "classification", "data": {"benchmark": "glue/sst2", "train": train}}
    return make_recipe(raw)


def test_files_of_benchmarks_may_be_added_and_not_changed(recipe, tmp_path):
    folder, out = write_glue(tmp_path / "glue"), tmp_path / "out"
    out.mkdir()
    glue = moved(recipe, train=str(folder), evaluation=None)
    one = setting_of("methods", out, glue, benchmarks=["glue/sst2"], **TINY)
    both = replace(one, options={**one.options, "benchmarks": ["glue/sst2", "glue/cola"]})
    claim(STUDIES["methods"], one)
    write_glue(folder, cola="a bad film")  # before anything was measured on it
    claim(STUDIES["methods"], both)
    claim(STUDIES["methods"], one)
    write_glue(folder, cola="a good film")
    with pytest.raises(ResumeError, match=r"glue/cola\.eval\.dev\.tsv|glue/cola"):
        claim(STUDIES["methods"], both)
    with pytest.raises(ResumeError, match="glue/cola"):  # nor where it is left out for once
        claim(STUDIES["methods"], both)


def test_a_study_begun_without_hashes_of_benchmarks_goes_on(recipe, tmp_path):
    folder, out = write_glue(tmp_path / "glue"), tmp_path / "out"
    out.mkdir()
    glue = moved(recipe, train=str(folder), evaluation=None)
    setting = setting_of("methods", out, glue, benchmarks=["glue/sst2"], **TINY)
    told = claim(STUDIES["methods"], setting)
    del told["identity"]["benchmarks"]
    (out / FILE).write_text(json.dumps(told))
    again = claim(STUDIES["methods"], setting)
    assert set(again["identity"]["benchmarks"]) == {"glue/sst2"}


def test_another_tokenizer_is_another_base(recipe, tmp_path):
    base = shutil.copytree(recipe.model, tmp_path / "base")
    (tmp_path / "out").mkdir()
    own = moved(recipe, train=recipe.data.train, evaluation=recipe.data.eval, model=str(base))
    claim(STUDIES["rank"], setting_of("rank", tmp_path / "out", own))
    with (base / "tokenizer.json").open("a") as file:
        file.write("\n")
    with pytest.raises(ResumeError, match="tokenizer"):
        claim(STUDIES["rank"], setting_of("rank", tmp_path / "out", own))


def test_a_study_goes_on_where_its_files_were_moved_to(recipe, tmp_path):
    pytest.importorskip("optuna")
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    for own in (recipe.data.train, recipe.data.eval):
        shutil.copy(own, one)
    shutil.copytree(recipe.model, one / "base")

    def run(place: Path, seeds: list[int]):
        own = moved(
            recipe, train=str(place / "train.jsonl"), evaluation=str(place / "eval.jsonl"),
            model=str(place / "base"),
        )  # fmt: skip
        setting = setting_of("methods", place / "out", own, seeds=seeds, **TINY)
        return run_study(STUDIES["methods"], setting)

    first = run(one, [0])
    one.rename(two)
    again = run(two, [0, 1])
    assert again.failed == []
    assert again.records[0] == first.records[0]
    assert again.records[1].figures["lr"] == first.records[0].figures["lr"]
