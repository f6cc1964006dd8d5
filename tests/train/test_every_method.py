"""Every method that LoRA is compared with goes through the same recipe, run and folder."""

from __future__ import annotations

from typing import get_args

import pytest
from test_run import run_and_resume

from lorakit.core.errors import RecipeError
from lorakit.eval.generate import ask
from lorakit.eval.predict import predict
from lorakit.eval.session import open_session
from lorakit.methods import BASELINES, LOW_RANK, METHODS
from lorakit.train import options
from lorakit.train.expand import expand
from lorakit.train.recipe import make_recipe
from lorakit.train.record import read_events
from lorakit.train.run import run
from lorakit.train.sweep import sweep

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:torch.*")
RATES = {"full": 3e-3, "prefix": 0.1, "prompt": 0.1, "ia3": 0.1, "norms": 3e-2, "bitfit": 3e-2}
SIZES = {"top": 1, "houlsby": 4, "pfeiffer": 4, "parallel": 4, "prefix": 3, "prompt": 3}
ON_LLAMA = [kind.name for kind in BASELINES if kind.name != "bitfit"]  # which has no biases


def changes(name: str, task: str) -> dict:
    lora = {"rank": SIZES[name]} if name in SIZES else {}
    return {
        "task": task, "family": "bert" if task == "classification" else "llama", "method": name,
        "lora": lora, "train__lr": RATES.get(name, 1e-2),
    }  # fmt: skip


CELLS = [(kind.name, "classification") for kind in BASELINES]
CELLS += [(name, "completion") for name in ON_LLAMA]


@pytest.mark.parametrize(("name", "task"), CELLS)
def test_it_learns_resumes_to_the_same_bits_and_answers(
    name, task, recipe_for, tmp_path, monkeypatch
):
    whole = run_and_resume(recipe_for, tmp_path, monkeypatch, **changes(name, task))
    losses = [e["loss"] for e in read_events(whole.folder / "events.jsonl") if "loss" in e]
    if task == "completion":  # labels that are drawn unevenly say little in twelve steps
        assert sum(losses[-3:]) < sum(losses[:3])
    session = open_session([str(whole.folder)])
    if task == "classification":
        assert predict(session, [("a warm room", None)])[0]["answers"]
    else:
        assert ask(session, ["a warm room"], raw=True, max_new_tokens=3)[0]["answers"]


@pytest.mark.parametrize("name", ["full", "prompt", "houlsby"])
def test_seeds_of_a_sweep_end_as_they_do_alone(name, recipe_for, tmp_path):
    given = changes(name, "completion")
    recipe = recipe_for(output=str(tmp_path / "all"), sweep={"train.seed": [0, 1]}, **given)
    together = sweep(recipe, quiet=True)
    alone = [run(r.model_copy(update={"output": str(tmp_path / f"{n}")}), quiet=True)
             for n, (_, r) in enumerate(expand(recipe))]  # fmt: skip
    for one, two in zip(together, alone, strict=True):
        assert one.result.metrics["loss"] == pytest.approx(two.metrics["loss"], rel=1e-4)


def test_recipes_know_every_method():
    assert get_args(options.Method) == tuple(METHODS)
    assert tuple(kind.name for kind in LOW_RANK) == options.LOW_RANK
    assert tuple(kind.name for kind in BASELINES) == options.BASELINES
    assert {kind.name for kind in METHODS.values() if kind.size} == set(options.SIZED)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"method": "houlsby", "lora": {"alpha": 8}}, "lora.alpha is for LoRA"),
        ({"method": "full", "lora": {"rank": 4}}, "lora.rank is for methods of a size"),
        ({"method": "top", "lora": {"rank": {"*": 2}}}, "number of top blocks"),
        ({"method": "ia3", "train": {"lora_plus": 4}}, "lora_plus"),
        ({"method": "hulsby"}, "method"),
        ({"method": "dora", "lora": {"method": "vera"}}, "set one of them"),
    ],
)
def test_options_that_a_method_does_not_read_are_refused(given, said):
    raw = {"model": "x", "task": "text", "data": {"train": "x"}, "output": "x", **given}
    with pytest.raises(RecipeError, match=said):
        make_recipe(raw)


def test_the_method_may_stand_with_the_options_of_lora():
    raw = {"model": "x", "task": "text", "data": {"train": "x"}, "output": "x"}
    recipe = make_recipe({**raw, "lora": {"method": "dora", "rank": 4}})
    assert (recipe.method, recipe.lora.rank) == ("dora", 4)
    assert make_recipe(recipe.model_dump()) == recipe
