"""The verb: a list, a run, a run that goes on, and mistakes."""

from __future__ import annotations

import json

import pytest
import yaml
from typer.testing import CliRunner

from lorakit.cli import app
from lorakit.core.errors import LorakitError
from lorakit.study import STUDIES

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:torch.*")


def study(*arguments) -> dict:
    done = CliRunner().invoke(app, ["study", *map(str, arguments), "--json"])
    if done.exception is not None:
        raise done.exception
    return json.loads(done.stdout)


def test_without_a_name_it_lists_the_studies():
    assert [own["name"] for own in study()] == list(STUDIES)
    done = CliRunner().invoke(app, ["study"])
    assert all(own.why in done.stdout for own in STUDIES.values())


def test_a_study_of_a_folder(base, tmp_path):
    told = ("memory", "--study.ranks", "[1]", "--study.targets=[[q]]", "--study.length", 8)
    told = (*told, "--model", base, "--out", tmp_path / "out", "--quiet", "--quick")
    found = study(*told)
    assert found["failed"] == []
    assert [row["way"] for row in found["tables"][0]["rows"]] == ["full fine-tuning", "LoRA on q"]
    assert (tmp_path / "out" / "report.html").exists()
    cells = (tmp_path / "out" / "cells.jsonl").read_bytes()
    assert study(*told)["tables"] == found["tables"]
    assert (tmp_path / "out" / "cells.jsonl").read_bytes() == cells


def test_a_study_of_a_recipe_with_fields_set_over_it(base, tmp_path, recipe):
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe.model_dump()))
    found = study(
        "subspace", file, "--train.steps", 2, "--study.ranks", "[1, 2]", "--study.seeds=[0]",
        "--out", tmp_path / "out", "--quiet",
    )  # fmt: skip
    assert found["failed"] == []
    told = json.loads((tmp_path / "out" / "study.json").read_text())["identity"]
    assert told["recipe"]["train"]["steps"] == 2
    adapters = sorted((tmp_path / "out" / "work").glob("*/adapter"))
    again = study("subspace", "--adapter", adapters[0], "-a", adapters[1], "--out",
                  tmp_path / "given", "--quiet")  # fmt: skip
    assert again["failed"] == []


def test_without_a_recipe_it_writes_rows_of_its_own(base, tmp_path):
    study(
        "subspace", "--model", base, "--train.steps", 1, "--data.train_rows", 8,
        "--data.eval_rows", 4, "--study.ranks", "[1]", "--study.seeds", "[0]", "--out",
        tmp_path / "out", "--quiet",
    )  # fmt: skip
    assert (tmp_path / "out" / "rows" / "train.jsonl").exists()


@pytest.mark.parametrize(("words", "said"), [
    (["latancy"], "latency"), (["--quick", "--study.rounds", "3"], "before the study"),
    (["memory", "--study.rank", "[1]"], "ranks"), (["memory", "--study.ranks"], "no value"),
    (["memory", "no-such.yaml"], "not there"), (["subspace", "--lora.rnk", "3"], r"lora\.rank"),
    (["memory", "--lora.rank", "3"], "is for a recipe"),
    (["latency", "--adapter", "x"], "no adapters"),
    (["subspace", "--adapter", "nowhere"], "nowhere"),
])  # fmt: skip
def test_mistakes_are_told(words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LorakitError, match=said):
        study(*words, "--quiet", "--out", "out")
    assert not (tmp_path / "out" / "cells.jsonl").exists()
