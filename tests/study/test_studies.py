"""The studies that come along: what they measure is what they say."""

from __future__ import annotations

import copy
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

import lorakit as lk
from lorakit.analysis.cost import cost
from lorakit.core.errors import AdapterFileError, RecipeError, UnsupportedError
from lorakit.core.registry import registry_of
from lorakit.core.state import trained_parameters
from lorakit.layers.form import Form
from lorakit.models.load import load_base
from lorakit.study import STUDIES
from lorakit.study.grid import run_study
from lorakit.study.kinds import Record, Setting
from lorakit.study.latency import PAPER, Latency
from lorakit.study.memory import FULL, Memory
from lorakit.study.options import chosen_options
from lorakit.study.subspace import Subspace
from lorakit.study.ways import WAYS, Place, way_named

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:torch.*")


def setting_of(study, base, out, recipe=None, adapters=(), **options) -> Setting:
    chosen = chosen_options(study, options, quick=True)
    return Setting(base, out, chosen, recipe=recipe, adapters=tuple(map(str, adapters)), quiet=True)


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_says_what_it_asks(name):
    study = STUDIES[name]
    assert study.name == name
    assert "?" in study.why
    assert re.search(r"[A-Z]\w+ et al\. 20\d\d", study.why), "who asks it"
    full, quick = study.options(quick=False), study.options(quick=True)
    assert full.keys() == quick.keys()


@pytest.mark.parametrize(("given", "words"), [
    ({"round": 3}, "rounds"), ({"rounds": "many"}, "something like"), ({"rounds": 0}, "rounds"),
    ({"rounds": True}, "rounds"), ({"shapes": [["a", 2]]}, "shapes"), ({"shapes": []}, "shapes"),
    ({"targets": "q"}, "targets"), ({"precision": 3}, "precision"),
])  # fmt: skip
def test_options_that_cannot_be_meant_are_refused(given, words):
    with pytest.raises(RecipeError, match=words):
        chosen_options(Latency(), given, quick=False)


def test_rates_as_yaml_reads_them():
    given = {"low": yaml.safe_load("1e-4"), "rungs": yaml.safe_load("[5e-1, 1]")}
    assert given["low"] == "1e-4", "a power of ten without a point is text to YAML 1.1"
    chosen = chosen_options(STUDIES["methods"], given, quick=False)
    assert (chosen["low"], chosen["rungs"]) == (1e-4, [0.5, 1])
    with pytest.raises(RecipeError, match=r"study.low is 'small'"):
        chosen_options(STUDIES["methods"], {"low": "small"}, quick=False)


# Latency


def test_ways_do_what_their_names_say(base):
    model = load_base(base, "causal").model
    for name, way in WAYS.items():
        own = copy.deepcopy(model)
        way(own, Place(["q", "v"], 2))
        registry = registry_of(own)
        assert bool(lk.adapters(own)) == (not name.startswith("base"))
        assert (registry is not None and registry.merged is not None) == (name == "merged")
    with pytest.raises(RecipeError, match="unmerged"):
        way_named("unmerge")


def test_bottlenecks_are_as_wide_as_the_papers_are_to_each_other(base):
    model = load_base(base, "causal").model
    blocks, width = model.config.num_hidden_layers, model.config.hidden_size
    sizes = {}
    for name in ("adapter L", "adapter H"):
        own = copy.deepcopy(model)
        WAYS[name](own, Place(["q"], 2, width=8))
        (adapter,) = lk.adapters(own)
        places = {}
        for target, value in trained_parameters(own, adapter):
            if value.dim() == 2:
                places.setdefault(target.rpartition(" ")[0], []).append(tuple(value.shape))
        sizes[name] = places
    assert list(sizes["adapter L"].values()) == [[(8, width), (width, 8)]] * blocks
    assert list(sizes["adapter H"].values()) == [[(4, width), (width, 4)]] * (2 * blocks)


def test_a_way_that_a_base_cannot_have_leaves_the_others_alone(base, tmp_path, monkeypatch):
    def never(model, place):
        raise UnsupportedError("No bottleneck here.")

    monkeypatch.setitem(WAYS, "adapter L", never)
    study = Latency()
    setting = setting_of(study, base, tmp_path / "out", shapes=[[1, 4]], rounds=2)
    done = run_study(study, setting)
    assert [(own.settings["way"], own.error) for own in done.failed] == [
        ("adapter L", "No bottleneck here.")
    ]


def test_latency_pairs_every_way_with_the_base(base, tmp_path):
    study = Latency()
    setting = setting_of(study, base, tmp_path / "out", shapes=[[2, 8]], rounds=3, rank=1)
    done = run_study(study, setting)
    ways = ["base", "base again", "merged", "unmerged", "adapter L", "adapter H"]
    assert [own.settings["way"] for own in done.records] == ways
    for own in done.records:
        assert {name: len(values) for name, values in own.figures.items()} == dict.fromkeys(
            ("seconds", "wall", "base_seconds", "base_wall"),
            9,  # trebled: few tokens
        )
        assert min(own.figures["seconds"]) > 0
        assert own.figures["base_seconds"] == done.records[0].figures["seconds"]
    assert len(done.shown.tables[0].columns) == 5  # the paper has no such shape
    # One way that is missing is measured beside the base again.
    cell = study.cells(setting)[2]
    (found,) = study.measure([cell], setting, tmp_path)
    assert len(found["base_seconds"]) == 9


def test_latency_is_shown_as_paired_ratios():
    base = [1.0, 2.0, 4.0, 8.0, 16.0]

    def record(way, factor, length=128):
        times = [factor * second for second in base]
        figures = {"seconds": times, "wall": times, "base_seconds": base, "base_wall": base}
        return Record({"batch": 1, "length": length, "way": way}, figures, 1.0)

    study = Latency()
    records = [record("base", 1.0), record("merged", 1.0), record("adapter L", 1.25)]
    setting = Setting("base", Path(), study.options(quick=False))
    table = study.show(records, setting).tables[0]
    rows = {row[1]: row for row in table.rows}
    assert rows["adapter L"][3].mean == rows["adapter L"][3].low == 1.25
    assert rows["adapter L"][2].mean == 5000  # the median, in milliseconds
    assert rows["adapter L"][5] == pytest.approx(23.9 / 19.8)
    assert rows["merged"][3].mean == 1
    assert rows["base"][3] is None
    assert study.show(records, setting).findings == [
        "At 1 x 128, times the base's latency: merged 1.000 (1.000 to 1.000), adapter L 1.250 "
        "(1.250 to 1.250)."
    ]


def test_the_papers_table_is_its_percentages():
    told = {(32, 512): (2.2, 3.0), (16, 256): (5.0, 8.4), (1, 128): (20.7, 30.3)}
    for shape, percents in told.items():
        for way, percent in zip(("adapter L", "adapter H"), percents):
            more = 100 * (PAPER[shape][way] / PAPER[shape]["base"] - 1)
            assert more == pytest.approx(percent, abs=0.1)


def test_latency_refuses_rows_that_the_base_cannot_place(base, tmp_path):
    study = Latency()
    for shapes, words in (([[1, 10**6]], "can place"), ([[1, 2, 3]], "batch and length")):
        with pytest.raises(RecipeError, match=words):
            run_study(study, setting_of(study, base, tmp_path / "out", shapes=shapes))
    with pytest.raises(RecipeError, match="fp32"):
        run_study(study, setting_of(study, base, tmp_path / "out", precision="fp23"))
    assert not (tmp_path / "out").exists()


# Memory


def test_memory_counts_what_is_there(base, tmp_path):
    study = Memory()
    setting = setting_of(study, base, tmp_path / "out", ranks=[1, 4], rows=2, length=8)
    done = run_study(study, setting)
    found = {(own.settings.get("rank"), str(own.settings.get("targets"))): own.figures
             for own in done.records}  # fmt: skip
    model = load_base(base, "causal").model
    full = found.pop((None, "None"))
    assert full["parameters"] == full["base_parameters"] == sum(
        value.numel() for value in model.parameters()
    )  # fmt: skip
    assert full["optimiser_bytes"] == pytest.approx(2 * full["gradient_bytes"], rel=0.01)
    for (rank, targets), own in found.items():
        named = ["q", "v"] if "q" in targets else ["all-linear"]
        planned = cost(model, lk.plan(model, targets=named, rank=rank))
        assert own["parameters"] == planned.parameters
        assert own["checkpoint_bytes"] >= planned.adapter_bytes
        assert own["checkpoint_bytes"] < planned.adapter_bytes + 10_000
        assert own["checkpoint_bytes"] < full["checkpoint_bytes"]
        held = own["weight_bytes"] + own["gradient_bytes"] + own["optimiser_bytes"]
        assert held == pytest.approx(own["forecast_bytes"], rel=0.02)
        assert own["step_bytes"] < full["step_bytes"]
        assert own["kept_bytes"] > 0
    held = full["weight_bytes"] + full["gradient_bytes"] + full["optimiser_bytes"]
    assert held == pytest.approx(full["forecast_bytes"], rel=0.02)
    assert done.shown.findings[0].startswith("LoRA on q, v with rank 1 trains")
    assert done.records[0].settings == {"way": FULL}


# Subspaces


def planted(base: str, folder: Path, strength: float, rank: int = 2) -> Path:
    """An adapter whose change is the weight's own first directions, times a strength."""
    model = load_base(base, "causal").model
    lk.inject(model, lk.plan(model, ["q", "v"], rank=rank), name="a", method=lk.LoRA(alpha=rank))
    named = dict(trained_parameters(model, "a"))
    with torch.no_grad():
        for path in lk.plan(model, ["q", "v"], rank=rank):
            U, S, Vh = torch.linalg.svd(Form.of(model, path).matrix(), full_matrices=False)
            named[f"{path} A"].copy_(S[:rank, None] * Vh[:rank])
            named[f"{path} B"].copy_(strength * U[:, :rank])
    return lk.save(model, folder, name="a")


def test_subspaces_of_given_adapters(base, tmp_path):
    one = planted(base, tmp_path / "one", 0.5)
    two = planted(base, tmp_path / "two", 3.0, rank=3)
    study = Subspace()
    done = run_study(study, setting_of(study, base, tmp_path / "out", adapters=[one, two]))
    assert done.failed == []
    alone = {own.settings["adapter"]: own.figures["modules"] for own in done.records[:2]}
    for name, factor, rank in (("one", 0.5, 2), ("two", 3.0, 3)):
        for own in alone[name].values():
            assert own["change"] / own["along"] == pytest.approx(factor, rel=1e-4)
            assert own["along"] == pytest.approx(own["along_top"], rel=1e-4)
            assert own["along_random"] < own["along"]
            assert own["rank"] == rank
            assert own["effective_rank"] <= rank + 1e-6
    beside = done.records[2]
    assert beside.settings == {"adapter": "one", "beside": "two"}
    for grid in beside.figures["similarity"].values():
        assert grid[0][0] == pytest.approx(1, abs=1e-3)
        assert grid[1][2] == pytest.approx(1, abs=1e-3)  # the smaller one lies in the larger
    control = done.records[3].figures["similarity"]
    assert all(0 <= value < 0.9 for grid in control.values() for row in grid for value in row)
    assert {table.name for table in done.shown.tables} == {"similarity", "amplification", "rank"}


def test_subspaces_of_adapters_that_it_trains(base, tmp_path, recipe):
    study = Subspace()
    setting = setting_of(
        study, base, tmp_path / "out", recipe=recipe, ranks=[1, 2], seeds=[0, 1], layers=1,
        of="change",
    )  # fmt: skip
    done = run_study(study, setting)
    assert done.failed == []
    kinds = ["train"] * 4 + ["adapter"] * 14
    assert [next(iter(own.settings)) for own in done.records] == kinds
    assert len(list((done.folder / "work").iterdir())) == 4
    for own in done.records[8:14]:
        for grid in own.figures["similarity"].values():
            assert all(0 <= value <= 1 for row in grid for value in row)
    # What it shows it knows from its records alone.
    shutil.rmtree(done.folder / "work")
    assert run_study(study, setting).records == done.records


def test_subspaces_of_what_has_nothing_in_common(base, tmp_path):
    one = planted(base, tmp_path / "one", 0.5)
    model = load_base(base, "causal").model
    lk.inject(model, lk.plan(model, "mlp", rank=1))
    two = lk.save(model, tmp_path / "two")
    study = Subspace()
    done = run_study(study, setting_of(study, base, tmp_path / "out", adapters=[one, two]))
    assert [own.error is None for own in done.records] == [True, True, False, True, True]
    assert "no layer in common" in str(done.records[2].error)


def test_subspaces_need_something_to_look_at(base, tmp_path):
    study = Subspace()
    with pytest.raises(RecipeError, match="--adapter"):
        run_study(study, setting_of(study, base, tmp_path / "out"))
    one = planted(base, tmp_path / "one", 0.5)
    with pytest.raises(RecipeError, match="same folder"):
        run_study(study, setting_of(study, base, tmp_path / "out", adapters=[one, one]))
    nowhere = setting_of(study, base, tmp_path / "out", adapters=[tmp_path / "nowhere"])
    with pytest.raises(AdapterFileError, match="nowhere"):
        run_study(study, nowhere)
    with pytest.raises(RecipeError, match="change"):
        run_study(study, replace(nowhere, options={**nowhere.options, "of": "B"}))


def test_anchored_changes_are_taken_as_a_whole(base, tmp_path):
    model = load_base(base, "causal").model
    lk.inject(model, lk.plan(model, ["q"], rank=2), method=lk.LoRA(init="pissa"))
    with torch.no_grad():
        for _, value in trained_parameters(model, "default"):
            value.add_(torch.randn(value.shape, generator=torch.Generator().manual_seed(0)) / 50)
    folder = lk.save(model, tmp_path / "one")
    ids = {path: Form.of(model, path).matrix() for path in lk.plan(model, ["q"])}
    with lk.merged(model, "default"):
        changed = {path: Form.of(model, path).matrix() - own for path, own in ids.items()}
    study = Subspace()
    done = run_study(study, setting_of(study, base, tmp_path / "out", adapters=[folder]))
    for path, own in done.records[0].figures["modules"].items():
        assert own["change"] == pytest.approx(float(changed[path].norm()), rel=1e-3)
