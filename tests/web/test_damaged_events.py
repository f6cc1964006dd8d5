"""What the page reads from files that others wrote may be damaged, and is passed over."""

from __future__ import annotations

import json
import os

import pytest

from lorakit.jobs.progress import progress_of
from lorakit.web.curves import Curve
from lorakit.web.found import look

BROKEN = [
    '{"step": 2, "loss": null}', '{"step": 3, "loss": "abc"}', '{"step": 4, "loss": NaN}',
    '{"step": 5, "loss": ' + "9" * 400 + "}", '{"step": 6, "loss": 1e999}', '{"step": "x"}', "[",
    '{"step": 7, "eval_loss": Infinity}',
]  # fmt: skip


def test_a_curve_takes_what_can_be_drawn(tmp_path):
    good = [json.dumps({"step": step, "loss": 1.0, "steps": 9}) for step in (1, 8)]
    (tmp_path / "events.jsonl").write_text("\n".join([good[0], *BROKEN, good[1]]) + "\n")
    curve = Curve()
    assert curve.read(tmp_path)
    assert curve.loss == {1: 1.0, 8: 1.0}
    assert not curve.evaluations.get(7)
    assert not curve.read(tmp_path)


@pytest.mark.parametrize("steps", ["NaN", "1e999", "null", '"many"'])
def test_progress_of_a_damaged_run(steps, tmp_path, recipe_of_steps):
    line = f'{{"step": 3, "loss": 1.0, "steps": {steps}, "seconds_left": {steps}}}'
    (tmp_path / "events.jsonl").write_text(line + "\n")
    found = progress_of([tmp_path], recipe_of_steps, running=True)
    assert (found.step, found.steps, found.seconds_left) == (3, 9, None)


@pytest.fixture
def recipe_of_steps(tmp_path):
    from lorakit.demo.recipe import demo_recipe

    recipe = demo_recipe(tmp_path / "rows", str(tmp_path / "run"))
    return recipe.model_copy(update={"train": recipe.train.model_copy(update={"steps": 9})})


def test_names_that_are_no_unicode_are_not_offered(tmp_path):
    for name in (b"good.jsonl", b"d\xff.jsonl", b"f\xff/rows.jsonl"):
        place = os.path.join(os.fsencode(tmp_path), name)
        os.makedirs(os.path.dirname(place), exist_ok=True)
        with open(place, "w") as file:
            file.write("{}")
    assert [path.name for path in look([tmp_path]).data] == ["good.jsonl"]
