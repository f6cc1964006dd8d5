"""What the documents say is so: the README's example runs, its recipe is one, tables are fresh."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
import yaml

from lorakit.cli import VERBS
from lorakit.study import STUDIES
from lorakit.study.ways import WAYS
from lorakit.train.recipe import make_recipe

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def block(language: str) -> str:
    found = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    assert len(found) == 1
    return found[0]


def test_the_readmes_example_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    scope: dict = {}
    exec(compile(block("python"), "README.md", "exec"), scope)
    assert "adapter 'poet'" in capsys.readouterr().out
    assert not scope["lk"].adapters(scope["model"])
    assert not scope["tuned"].equal(scope["plain"])
    assert scope["both"].shape[0] == 2


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads Linux's own marks")
def test_the_benchmark_of_the_planner_trains(tmp_path):
    """It makes a run of its own, by parts that training has: tiny, and without its figures."""
    own = runpy.run_path(str(ROOT / "benchmarks" / "plan.py"))
    case = own["CASES"][-1]
    recipe = own["recipe_of"](case, tmp_path, small=True)
    assert recipe.method == case.lora["method"] == "dora"
    peak, times = own["train"](recipe, own["rows_of"](case, 512, small=True))
    assert peak > 0
    assert len(times) == own["STEPS"] - 1


def test_the_readmes_recipe_is_one():
    recipe = make_recipe(yaml.safe_load(block("yaml")))
    assert recipe.task == "completion"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_verbs_and_links_exist(page):
    text = page.read_text(encoding="utf-8")
    for verb in re.findall(r"^\s+lorakit (\w+) ", text, re.MULTILINE):
        assert verb in VERBS, verb
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("name", ["recipe_table.py", "benchmark_table.py"])
def test_generated_tables_are_fresh(name):
    script = runpy.run_path(str(ROOT / "scripts" / name))
    text = script["PAGE"].read_text(encoding="utf-8")
    assert script["table"]() in text
    assert script["page"](text) == text, f"run: python scripts/{name}"


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_is_explained(name):
    text = (ROOT / "docs" / "studies.md").read_text(encoding="utf-8")
    (about,) = re.findall(rf"^\*\*{name}\*\*\. (.*?)\n\n", text, re.MULTILINE | re.DOTALL)
    about = " ".join(about.split())
    assert about.startswith(STUDIES[name].why)
    for option in STUDIES[name].options(quick=False):
        assert f"`{option}`" in about, option


def test_every_way_to_answer_is_named():
    text = " ".join((ROOT / "docs" / "studies.md").read_text(encoding="utf-8").split())
    assert f"`ways` ({', '.join(WAYS)})" in text
