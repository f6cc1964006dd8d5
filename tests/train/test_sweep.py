"""Sweeps: runs side by side end in the adapters that lone runs end in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lorakit.cli import app
from lorakit.core.errors import RecipeError, SaveError, TrainingError
from lorakit.train import together
from lorakit.train.expand import expand
from lorakit.train.lockstep import in_turns
from lorakit.train.recipe import parse_overrides, read_recipe
from lorakit.train.record import read_events
from lorakit.train.run import run
from lorakit.train.source import Source
from lorakit.train.sweep import sweep, table

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:torch.*")


def swept(recipe_for, tmp_path, fields, task="completion", family="llama", **changes):
    return recipe_for(
        task, family, lora__dropout=0.0, sweep=fields, output=str(tmp_path / "all"), **changes
    )


def close(one: Path, two: Path, bound: float = 1e-5) -> None:
    files = (path / "adapter" / "adapter_model.safetensors" for path in (one, two))
    first, second = map(load_file, files)
    assert first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], rtol=bound, atol=bound, msg=name)


def alone(recipe, folder: Path) -> Path:
    return run(recipe.model_copy(update={"output": str(folder), "sweep": {}}), quiet=True).folder


FIELDS = [
    ("completion", "llama", {"train.seed": [0, 1, 2, 3, 4]}, {}),
    ("completion", "llama", {"train.lr": [1e-2, 1e-3], "lora.rank": [1, 3]}, {}),
    ("text", "llama", {"train.seed": [0, 1], "train.batch_size": [2, 3]}, {"train__accumulate": 2}),
    ("completion", "llama", {"train.steps": [5, 9], "train.accumulate": [1, 2]}, {}),
    ("classification", "llama", {"train.seed": [3, 4]}, {"train__lr": 2e-3}),
    ("completion", "llama", {"train.seed": [0, 1]}, {"method": "dora"}),
    ("completion", "llama", {"train.seed": [0, 1]}, {"train__epochs": 1.0, "train__steps": None}),
]


@pytest.mark.parametrize(("task", "family", "fields", "changes"), FIELDS)
def test_each_run_is_its_lone_run(task, family, fields, changes, recipe_for, tmp_path, monkeypatch):
    recipe = swept(recipe_for, tmp_path, fields, task, family, **changes)
    seen: set[int] = set()
    step = together.step
    monkeypatch.setattr(
        together, "step", lambda model, kind, padding, parts: seen.add(id(model))
        or step(model, kind, padding, parts),
    )  # fmt: skip
    outcomes = sweep(recipe, quiet=True)
    assert len(seen) == 1  # one base, and every step was a common one
    for number, (outcome, (settings, own)) in enumerate(zip(outcomes, expand(recipe), strict=True)):
        assert outcome.settings == settings
        assert outcome.result is not None
        folder = alone(own, tmp_path / f"alone {number}")
        close(folder, outcome.folder)
        beside, lone = (read_events(path / "events.jsonl") for path in (outcome.folder, folder))
        assert [e["step"] for e in beside] == [e["step"] for e in lone]
        for one, two in zip(beside, lone):
            for key in {"loss", "lr", "grad_norm", "eval_loss"} & {*one, *two}:
                assert one[key] == pytest.approx(two[key], rel=1e-4)
        assert {p.name for p in folder.iterdir()} == {p.name for p in outcome.folder.iterdir()}
        log = (outcome.folder / "log.txt").read_text()
        assert log.count("the adapter is that of step") == 1  # its own lines, not the others'


def test_seeds_draw_heads_and_factors_of_their_own(recipe_for, tmp_path):
    recipe = swept(recipe_for, tmp_path, {"train.seed": [0, 1]}, "classification")
    one, two = (own.folder / "adapter" / "adapter_model.safetensors" for own in sweep(recipe))
    first, second = load_file(one), load_file(two)
    assert not any(torch.equal(value, second[name]) for name, value in first.items())


APART = [
    ("completion", "llama", {"lora__dropout": 0.1}, "lora.dropout"),
    ("seq2seq", "t5", {}, "encoder-decoders"),
    ("classification", "bert", {}, "the base has dropout"),
    ("completion", "llama", {"train__checkpointing": True}, "train.checkpointing"),
    ("completion", "llama", {"train__batch_size": 16}, "a pass for each is faster"),
    ("completion", "llama", {"train__quantise": "int8"}, "int8"),
]


@pytest.mark.parametrize(("task", "family", "changes", "why"), APART, ids=[a[3] for a in APART])
def test_others_go_in_turn_over_one_base(
    task, family, changes, why, recipe_for, tmp_path, monkeypatch
):
    if why == "int8":
        pytest.importorskip("bitsandbytes")
    monkeypatch.setattr(together, "step", None)  # nothing may call it
    loads: list[object] = []
    base = Source.base
    monkeypatch.setattr(
        Source, "base", lambda self, *given, **named: loads.append(1) or base(self, *given, **named)
    )
    options = {"lora__dropout": 0.0, "train__steps": 3, **changes}
    place = tmp_path / "turns"
    recipe = recipe_for(task, family, sweep={"train.seed": [0, 1]}, output=str(place), **options)
    outcomes = sweep(recipe, quiet=True)
    # Else once: a head is drawn by its own seed, in the trial and in the run.
    assert len(loads) == (4 if task == "classification" else 1)
    assert why in (place / "log.txt").read_text()
    for number, (own, (_, one)) in enumerate(zip(outcomes, expand(recipe), strict=True)):
        folders = (own.folder, alone(one, tmp_path / f"alone {number}"))
        files = [folder / "adapter" / "adapter_model.safetensors" for folder in folders]
        assert files[0].read_bytes() == files[1].read_bytes()


def test_runs_with_other_labels_have_bases_of_their_own(recipe_for, tmp_path):
    """Fewer rows may know fewer labels, and then the head is another one."""
    recipe_for("classification")  # writes the rows
    file = tmp_path / "train.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    third = [{**row, "label": "third" if n > 40 else row["label"]} for n, row in enumerate(rows)]
    file.write_text("".join(json.dumps(row) + "\n" for row in third))
    recipe = swept(
        recipe_for, tmp_path, {"data.train_rows": [40, 48]}, "classification", train__steps=3
    )
    outcomes = sweep(recipe, quiet=True)
    assert "their labels are others" in (tmp_path / "all" / "log.txt").read_text()
    for number, (own, (_, one)) in enumerate(zip(outcomes, expand(recipe), strict=True)):
        close(alone(one, tmp_path / f"alone {number}"), own.folder, 0.0)


def test_a_pass_takes_as_many_parts_as_its_tokens_allow(recipe_for, tmp_path, monkeypatch):
    monkeypatch.setattr(together, "_PASS", 400)  # two batches of 4 x 48
    counts: list[int] = []
    losses = together.joint_losses
    monkeypatch.setattr(
        together, "joint_losses", lambda *given: counts.append(len(given[3])) or losses(*given)
    )
    recipe = swept(recipe_for, tmp_path, {"train.seed": [0, 1, 2]}, train__steps=2)
    outcomes = sweep(recipe, quiet=True)
    assert counts[-4:] == [2, 1, 2, 1]
    close(alone(expand(recipe)[2][1], tmp_path / "alone"), outcomes[2].folder)


def test_a_run_that_fails_ends_alone(recipe_for, tmp_path):
    recipe = swept(recipe_for, tmp_path, {"train.lr": [1e-3, 1e30]}, train__clip=0.0)
    good, bad = sweep(recipe, quiet=True)
    assert good.result is not None
    assert bad.result is None
    assert "not finite" in str(bad.error) or "nan" in str(bad.error)
    close(alone(expand(recipe)[0][1], tmp_path / "alone"), good.folder)
    told = json.loads((tmp_path / "all" / "sweep.json").read_text())
    assert [own["error"] is None for own in told] == [True, False]
    assert "lr=1e+30 failed" in table([good, bad])


@pytest.mark.parametrize("dropout", [0.0, 0.1], ids=["side by side", "in turn"])
def test_a_run_that_the_base_cannot_have_ends_alone(dropout, recipe_for, tmp_path):
    recipe = swept(recipe_for, tmp_path, {"lora.targets": ["q_prjo", "q", "v"]})
    recipe = recipe.model_copy(update={"lora": recipe.lora.model_copy(update={"dropout": dropout})})
    first, *others = sweep(recipe, quiet=True)
    assert first.error is not None
    assert "q_prjo" in first.error
    assert all(own.error is None for own in others)


def test_seconds_are_of_all_starts_and_shared_by_those_side_by_side(
    recipe_for, tmp_path, monkeypatch
):
    recipe = swept(recipe_for, tmp_path, {"train.seed": [0, 1]})
    for own in sweep(recipe, quiet=True):
        events = read_events(own.folder / "events.jsonl")
        spent = [event["seconds"] for event in events if "loss" in event]
        assert spent == sorted(spent)
        assert own.result is not None
        assert own.result.metrics["seconds"] == pytest.approx(spent[-1] / 2, rel=0.5)
        (own.folder / "metrics.json").unlink()
    again = sweep(recipe, resume=True, quiet=True)  # both are over: nothing is trained anew
    assert all(own.result and own.result.metrics["seconds"] > 0 for own in again)


def test_a_sweep_resumes_each_run(recipe_for, tmp_path, monkeypatch):
    recipe = swept(recipe_for, tmp_path, {"train.seed": [0, 1]})
    step, calls = together.step, []

    def dying(*given):
        calls.append(1)
        if len(calls) == 8:
            raise KeyError("power cut")
        return step(*given)

    with monkeypatch.context() as patch:
        patch.setattr(together, "step", dying)
        with pytest.raises(KeyError):
            sweep(recipe, quiet=True)
    with pytest.raises(SaveError, match="--resume"):
        sweep(recipe, quiet=True)
    outcomes = sweep(recipe, resume=True, quiet=True)
    for number, (own, (_, one)) in enumerate(zip(outcomes, expand(recipe), strict=True)):
        close(alone(one, tmp_path / f"alone {number}"), own.folder)
    again = sweep(recipe, resume=True, quiet=True)  # all are over: nothing is trained
    assert all(own.result for own in again)


def test_turns_keep_random_states_apart():
    def job(seed):
        def draw(ask):
            torch.manual_seed(seed)
            return [torch.rand(()).item() for _ in range(4) if ask(seed) == seed]

        return draw

    met = []

    def meet(requests):
        torch.rand(3)
        met.append(dict(requests))
        return requests

    together_drawn = in_turns([job(1), job(2)], meet)
    assert met == [{0: 1, 1: 2}] * 4
    for seed, drawn in zip((1, 2), together_drawn):
        torch.manual_seed(seed)
        assert drawn == [torch.rand(()).item() for _ in range(4)]


def test_a_job_that_raises_leaves_the_others_going():
    def good(ask):
        return [ask("x") for _ in range(3)]

    def bad(ask):
        ask("x")
        raise ValueError("mine")

    met = []
    ended = in_turns([good, bad], lambda requests: met.append(len(requests)) or requests)
    assert ended[0] == ["x"] * 3
    assert isinstance(ended[1], ValueError)
    assert met == [2, 2, 1] or met == [2, 1, 1]

    def broken(requests):
        raise MemoryError("all of it")

    assert all(isinstance(own, MemoryError) for own in in_turns([good, good], broken))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"train.sed": [1]}, "no field that can be swept. Did you mean train.seed"),
        ({"train.seed": 3}, "expected a list"),
        ({"train.seed": []}, "expected a list"),
        ({"output": ["a"]}, "no field that can be swept"),
        ([1], "expected values by field"),
    ],
)
def test_a_mistaken_sweep_is_explained(fields, message, recipe_for):
    with pytest.raises(RecipeError, match=message):
        recipe_for(sweep=fields)


def test_each_combination_is_checked_before_anything_begins(recipe_for, tmp_path):
    recipe = swept(recipe_for, tmp_path, {"lora.rank": [2, "four"]})
    with pytest.raises(RecipeError, match=r"lora\.rank"):
        sweep(recipe)
    with pytest.raises(RecipeError, match="Name each value once"):
        sweep(swept(recipe_for, tmp_path, {"lora.rank": [2, 2]}))
    with pytest.raises(RecipeError, match="sweep"):
        run(swept(recipe_for, tmp_path, {"lora.rank": [2, 3]}))
    assert not (tmp_path / "all").exists()


def test_the_command_takes_a_sweep(recipe_for, tmp_path, capsys):
    file = tmp_path / "recipe.yaml"
    recipe = recipe_for(lora__dropout=0.0, train__steps=3, output=str(tmp_path / "all"))
    file.write_text(recipe.dump())
    flags = ["--sweep.train.seed", "[0, 1]", "--sweep.train.lr=[1e-3, 5e-3]"]
    assert read_recipe(file, parse_overrides(flags)).sweep == {
        "train.seed": [0, 1], "train.lr": ["1e-3", "5e-3"],  # as YAML 1.1 reads them
    }  # fmt: skip
    app(["train", str(file), *flags, "--quiet"], standalone_mode=False)
    out = capsys.readouterr().out
    assert len(out.splitlines()) == 6
    assert "eval_loss" in out
    names = {path.name for path in (tmp_path / "all").iterdir()}
    assert names >= {"seed=0,lr=0.001", "seed=1,lr=0.005", "sweep.json", "loss.png", "log.txt"}
    with pytest.raises(TrainingError, match="1 of 2 runs failed"):
        app(
            ["train", str(file), "--sweep.train.lr", "[1e-3, 1e30]", "--train.clip", "0",
             "--output", str(tmp_path / "other"), "--quiet"], standalone_mode=False,
        )  # fmt: skip
