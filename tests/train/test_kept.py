"""What was worked out for a recipe is kept, and never for longer than it is true."""

from __future__ import annotations

import json
import os

import pytest

from lorakit.core.errors import DataError
from lorakit.demo import base_folder
from lorakit.train.forecast import Question, forecast
from lorakit.train.kept import MOST, PACE, Kept, rows_of, shapes_of
from lorakit.train.preview import preview
from lorakit.train.recipe import make_recipe


def rows(count: int) -> str:
    return "".join(
        json.dumps({"prompt": f"{n} and", "completion": f" {n + 1}"}) + "\n" for n in range(count)
    )


@pytest.fixture
def recipe_of(tmp_path):
    """A function that makes a recipe over the rows of this test."""
    (tmp_path / "rows.jsonl").write_text(rows(20))

    def make(data=None, **parts):
        raw = {
            "model": str(base_folder()), "task": "completion", "output": str(tmp_path / "run"),
            "data": {"train": str(tmp_path / "rows.jsonl"), **(data or {})},
        }  # fmt: skip
        return make_recipe(raw | parts)

    return make


@pytest.fixture
def asked():
    """(a `Kept` by a recipe's rows, the recipes that it had to look at)."""
    seen = []

    def make(recipe):
        seen.append(recipe)
        return preview(recipe)

    return Kept(make, rows_of), seen


def test_rows_are_read_once_for_changes_of_anything_else(recipe_of, asked):
    kept, seen = asked
    one = kept(recipe_of())
    assert kept(recipe_of(train={"lr": 0.1, "batch_size": 3}, lora={"rank": 2})) is one
    assert kept(recipe_of(train={"seed": 7})) is one, "no row is drawn by it"
    assert len(seen) == 1


def test_rows_are_read_again_where_they_may_be_others(recipe_of, asked, tmp_path):
    kept, seen = asked
    assert kept(recipe_of()).rows == 20
    assert kept(recipe_of({"train_rows": 5})).rows == 5
    assert kept(recipe_of({"eval_share": 0.5})).rows == 10
    kept(recipe_of({"eval_share": 0.5}, train={"seed": 1}))
    assert len(seen) == 4
    file = tmp_path / "rows.jsonl"
    when = file.stat().st_mtime_ns
    file.write_text(rows(30))
    assert kept(recipe_of()).rows == 30
    (tmp_path / "other").write_text(rows(30).replace("0", "9"))
    os.utime(tmp_path / "other", ns=(when, when))
    (tmp_path / "other").replace(file)
    kept(recipe_of())
    assert len(seen) == 6


def test_of_a_folder_each_file_counts(recipe_of, asked, tmp_path):
    kept, _ = asked
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "train.jsonl").write_text(rows(4))
    assert kept(recipe_of({"train": str(folder)})).held == 0
    (folder / "dev.jsonl").write_text(rows(3))
    assert kept(recipe_of({"train": str(folder)})).held == 3


def test_what_is_wrong_is_said_until_it_is_right(recipe_of, asked, tmp_path):
    kept, _ = asked
    file = tmp_path / "rows.jsonl"
    file.write_text("{")
    for _ in range(2):
        with pytest.raises(DataError, match="line 1"):
            kept(recipe_of())
    file.unlink()
    with pytest.raises(DataError, match="is not there"):
        kept(recipe_of())
    file.write_text(rows(2))
    assert kept(recipe_of()).rows == 2


def test_few_answers_are_held(recipe_of):
    kept = Kept(lambda recipe: recipe.data.train_rows, rows_of)
    for count in range(1, 2 * MOST):
        assert kept(recipe_of({"train_rows": count})) == count
    assert len(kept.known) == MOST


def test_the_pace_decides_no_shape(recipe_of):
    other = {
        "steps": 7, "epochs": 9.0, "lr": 0.5, "lora_plus": 4.0, "schedule": "constant",
        "warmup": 0.5, "weight_decay": 0.1, "clip": 3.0, "eval_every": 3, "save_every": 3,
        "keep": 5, "keep_best": False, "patience": 2, "device": "cpu",
    }  # fmt: skip
    assert other.keys() == PACE
    plain, changed = recipe_of({"eval_share": 0.2}), recipe_of({"eval_share": 0.2}, train=other)
    assert shapes_of(plain) == shapes_of(changed)
    assert forecast(Question(plain)) == forecast(Question(changed))
    assert shapes_of(plain) != shapes_of(recipe_of({"eval_share": 0.2}, train={"batch_size": 2}))
