"""What a preview shows is what training learns."""

from __future__ import annotations

import json

import pytest

from lorakit.core.errors import DataError
from lorakit.demo.recipe import demo_recipe
from lorakit.tasks.options import DataOptions
from lorakit.train.preview import preview, tasks_for
from lorakit.train.recipe import make_recipe


def written(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_a_completion_is_learned_and_its_prompt_is_not(tmp_path):
    recipe = demo_recipe(tmp_path / "rows", str(tmp_path / "run"))
    found = preview(recipe, count=2)
    assert (found.rows, found.held, len(found.shown), found.seen) == (2400, 200, 2, 500)
    row = json.loads((tmp_path / "rows" / "train.jsonl").read_text().splitlines()[0])
    prompt, completion = found.shown[0].pieces
    assert (prompt.text, prompt.learned) == ("<s>" + row["attributes"] + "\n", False)
    assert completion.text.startswith(row["description"])
    assert completion.learned
    assert 0 < found.median <= found.longest <= found.limit
    assert 0 < found.learned < 1
    assert f"[[{row['description']}" in str(found)
    assert json.loads(json.dumps(found.as_dict()))["rows"] == 2400


def test_rows_that_would_be_cut_are_counted(tmp_path):
    raw = demo_recipe(tmp_path / "rows", str(tmp_path / "run")).model_dump()
    raw["data"]["max_length"] = 40
    found = preview(make_recipe(raw), count=0)
    assert found.limit == found.longest == 40
    assert found.cut > 0
    assert found.shown == ()


def test_labels_are_words(tmp_path):
    raw = demo_recipe(tmp_path / "rows", str(tmp_path / "run")).model_dump()
    place = written(tmp_path / "rows.jsonl", [
        {"text": "good", "label": "yes"}, {"text": "bad", "label": "no"},
    ])  # fmt: skip
    raw.update(task="classification", data={"train": place})
    found = preview(make_recipe(raw))
    assert [own.answer for own in found.shown] == ["yes", "no"]
    assert found.shown[0].pieces[0].text.endswith("good")
    assert found.learned == 0, "no token is learned, but the label"


@pytest.mark.parametrize(("row", "first"), [
    ({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
     "chat"),
    ({"text": "a", "label": "yes"}, "classification"),
    ({"text": "a", "label": 0.5}, "regression"),
    ({"prompt": "a", "completion": "b"}, "completion"),
    ({"text": "a b c"}, "text"),
])  # fmt: skip
def test_the_task_is_seen_in_the_rows(tmp_path, row, first):
    other = {**row, **({"label": "no"} if row.get("label") == "yes" else {})}
    if row.get("label") == 0.5:
        other["label"] = 0.25
    options = DataOptions(train=written(tmp_path / "rows.jsonl", [row, other]))
    assert tasks_for(options)[0] == first


def test_data_that_cannot_be_read_is_an_error(tmp_path):
    (tmp_path / "rows.jsonl").write_text("{")
    with pytest.raises(DataError, match=r"rows\.jsonl"):
        tasks_for(DataOptions(train=str(tmp_path / "rows.jsonl")))
