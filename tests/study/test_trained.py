"""Studies that train, from end to end on a tiny base: figures, going on, growing, and refusals."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from made import setting_of

from lorakit.core.errors import RecipeError, ResumeError
from lorakit.demo.recipe import demo_recipe
from lorakit.study import STUDIES, train
from lorakit.study.grid import CELLS, run_study
from lorakit.study.kinds import Setting
from lorakit.train.recipe import make_recipe, set_field

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:torch.*")
TUNING = {"trials": 2, "rungs": [1.0], "low": 1e-3, "high": 1e-2}
# By study: options, options that only choose more cells, one that makes it another study, and the
# settings that come with more cells.
CASES = {
    "methods": (
        {"methods": ["lora", "full"], **TUNING}, {"methods": ["lora", "full", "norms"]},
        {"trials": 3}, 1,
    ),
    "rank": ({"ranks": [1, 2], "targets": [["q"]]}, {"ranks": [1, 2, 3]}, None, 1),
    "placement": ({"targets": [["q"], ["q", "v"]], "rank": 4},
                  {"targets": [["q"], ["q", "v"], ["mlp"]]}, None, 1),
    "budget": ({"ranks": [2], "by": ["uniform", "weight"]},
               {"by": ["uniform", "weight", "gradient"]}, None, 1),
    "regret": ({"ranks": [1], "rates": [1e-3], "seeds": [0]}, {"rates": [1e-3, 1e-2]},
               None, 2),
}  # fmt: skip


def with_fields(recipe, **fields):
    raw = recipe.model_dump()
    for name, value in fields.items():
        set_field(raw, name.replace("__", "."), value)
    return make_recipe(raw)


@pytest.fixture
def short(recipe):
    return with_fields(recipe, train__steps=2)


@pytest.fixture
def trained(monkeypatch):
    """How many runs were trained, a number for each time that some were."""
    counts: list[int] = []
    whole = train.train_runs
    monkeypatch.setattr(
        train, "train_runs",
        lambda recipes, **how: counts.append(len(recipes)) or whole(recipes, **how),
    )  # fmt: skip
    return counts


@pytest.mark.parametrize("name", CASES)
def test_a_study_from_end_to_end(name, short, tmp_path, trained):
    options, more, other, settings = CASES[name]
    study, out = STUDIES[name], tmp_path / "out"
    setting = setting_of(name, out, short, **options)
    done = run_study(study, setting)
    assert done.failed == []
    seeds = len(setting.option("seeds"))
    assert len(done.records) == seeds * len({study.group(cell) for cell in study.cells(setting)})
    for own in done.records:
        assert own.figures["score"] == own.figures["eval_loss"] > 0
        assert own.figures["parameters"] > 0
        assert not own.figures["more_is_better"]
    assert not list(out.rglob("adapter"))
    for place in out.glob("work/**/recipe.yaml"):
        assert "keep_best: false" in place.read_text()
    if name == "placement":
        first, second = done.records[0], done.records[2]
        assert 0 <= first.figures["parameters"] - second.figures["parameters"] < 1000
    if name == "budget":
        assert all(own.figures["dealt"] <= own.settings["params"] for own in done.records)
        assert set(done.records[0].figures["ranks"].values()) == {2}
        assert any(done.records[2].figures["ranks"].values())
    report = (out / "report.html").read_text()
    assert report.count("src=") == len(done.shown.pictures) > 0

    lines = (out / CELLS).read_text().splitlines()
    trained.clear()
    again = run_study(study, setting)
    assert (again.records, trained) == (done.records, [])
    assert (out / CELLS).read_text().splitlines() == lines

    grown = run_study(study, replace(setting, options={**setting.options, **more}))
    assert (out / CELLS).read_text().splitlines()[: len(lines)] == lines
    assert len(grown.records) == len(lines) + seeds * settings
    assert grown.failed == []
    if name in ("methods", "rank"):
        trained.clear()
        wider = run_study(study, replace(setting, options={**setting.options, "seeds": [0, 1, 5]}))
        assert sum(trained) == len(wider.records) / 3  # the new seed alone, and no search
    refused = (
        replace(setting, options={**setting.options, **other}) if other
        else replace(setting, recipe=with_fields(short, train__weight_decay=0.5))
    )  # fmt: skip
    with pytest.raises(ResumeError, match=r"trials|weight_decay"):
        run_study(study, refused)


def test_a_method_that_the_base_cannot_have_is_left_out_and_named(short, tmp_path):
    study = STUDIES["methods"]
    chosen = {"methods": ["lora", "bitfit"], "seeds": [0], **TUNING}
    done = run_study(study, setting_of("methods", tmp_path / "out", short, **chosen))
    assert {own.settings["method"] for own in done.records} == {"lora"}
    assert any(line.startswith("bitfit is left out: ") for line in done.shown.findings)
    alone = setting_of("methods", tmp_path / "other", short, **chosen, reference="bitfit")
    with pytest.raises(RecipeError, match="this base cannot have"):
        run_study(study, alone)
    assert not (tmp_path / "other").exists()


def test_accuracy_of_classes(short, tmp_path):
    for split in ("train", "eval"):
        file = tmp_path / f"{split}.jsonl"
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        file.write_text("".join(
            json.dumps({"text": row["prompt"], "label": "ab"[n % 2]}) + "\n"
            for n, row in enumerate(rows)
        ))  # fmt: skip
    recipe = with_fields(short, task="classification")
    done = run_study(
        STUDIES["rank"], setting_of("rank", tmp_path / "out", recipe, ranks=[1], seeds=[0, 1])
    )
    figures = done.records[0].figures
    assert (figures["metric"], figures["more_is_better"]) == ("eval_accuracy", True)
    assert figures["score"] == figures["eval_accuracy"]
    assert done.shown.tables[0].title.startswith("Accuracy (%)")
    assert figures["parameters"] > figures["eval_accuracy"]  # with those of the new head


@pytest.mark.parametrize(("name", "options", "words"), [
    ("methods", {"methods": ["lora", "bitfitt"]}, "bitfit"),
    ("methods", {"methods": ["full"]}, "reference"),
    ("methods", {"benchmarks": ["glue/sst"]}, "glue/sst2"),
    ("placement", {"targets": [["q"], ["all-linear"]], "rank": 1}, r"study\.rank"),
    ("rank", {"ranks": [1, 1]}, "same"),
])  # fmt: skip
def test_mistakes_are_told_before_anything_is_written(name, options, words, short, tmp_path):
    with pytest.raises(RecipeError, match=words):
        run_study(STUDIES[name], setting_of(name, tmp_path / "out", short, **options))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("name", "data", "words"), [
    ("rank", {"eval": None}, "Nothing to evaluate on"),
    ("methods", {"eval": None}, "Nothing to evaluate on"),
    ("methods", {"eval": None, "eval_share": 0.2}, "rows of their own"),
])  # fmt: skip
def test_runs_without_a_fair_score_are_refused(name, data, words, short, tmp_path):
    own = short.model_copy(update={"data": short.data.model_copy(update=data)})
    with pytest.raises(RecipeError, match=words):
        run_study(STUDIES[name], setting_of(name, tmp_path / "out", own, **CASES[name][0]))
    assert not (tmp_path / "out").exists()


def test_a_cell_whose_record_is_gone_is_trained_again(short, tmp_path):
    setting = setting_of("rank", tmp_path / "out", short, ranks=[1], seeds=[0, 1])
    first = run_study(STUDIES["rank"], setting)
    ledger = tmp_path / "out" / CELLS
    ledger.write_text("".join(ledger.read_text().splitlines(keepends=True)[:1]))
    again = run_study(STUDIES["rank"], setting)
    assert again.failed == []
    scores = [[own.figures["score"] for own in done.records] for done in (first, again)]
    assert scores[0] == pytest.approx(scores[1], rel=1e-3)


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_its_own_options_fit_the_base_that_comes_along(name, quick, tmp_path):
    recipe = demo_recipe(tmp_path / "rows", str(tmp_path / "run"))
    study = STUDIES[name]
    options = study.options(quick=quick)
    assert len(study.cells(Setting(recipe.model, tmp_path / "out", options, recipe=recipe))) >= 4


@pytest.mark.parametrize("name", CASES)
def test_runs_need_a_recipe_with_steps(name, short, tmp_path):
    for recipe, words in (
        (None, "pass a recipe"),
        (with_fields(short, train__steps=None), "steps"),
    ):
        setting = setting_of(name, tmp_path / "out", short, **CASES[name][0])
        with pytest.raises(RecipeError, match=words):
            STUDIES[name].cells(replace(setting, recipe=recipe))
