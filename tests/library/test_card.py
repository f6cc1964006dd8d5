"""A model card says what is known, is front matter that the hub reads, and keeps people's words."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from shelves import kohya, tree

from lorakit.core.errors import LibraryError
from lorakit.library.card import BEGIN, END, is_repo, write_card
from lorakit.library.edit import edit
from lorakit.library.read import read_entry


@pytest.fixture
def entry(poet, root):
    return edit(
        read_entry(poet, root=root), tags=["verse"], triggers=["in verse"], description="A poet."
    )


def test_the_hub_reads_it(entry, poet):
    path = write_card(entry, license="apache-2.0")
    assert path == poet / "README.md"
    card = ModelCard.load(path)
    told = card.data.to_dict()
    assert told["base_model"] == "org/base"
    assert told["library_name"] == "peft"
    assert told["license"] == "apache-2.0"
    assert told["pipeline_tag"] == "text-generation"
    assert told["metrics"] == ["bleu"]
    assert told["instance_prompt"] == "in verse"
    assert "verse" in told["tags"]
    for fact in ("rank 4", "`org/base`", "| lr | 0.01 |", "| eval\\_bleu | 31.5 |", "A poet.",
                 "lk.load(model", "PeftModel", "`in verse`", "rows.jsonl"):  # fmt: skip
        assert fact in card.text, fact


def test_it_is_written_again_between_the_marks(entry, poet):
    path = write_card(entry)
    first = path.read_text()
    assert write_card(read_entry(poet, root=entry.root)).read_text() == first
    mine = first.replace(BEGIN, f"Before.\n\n{BEGIN}").replace(END, f"{END}\n\nAfter.")
    path.write_text(mine.replace("rank 4", "rank 99"))
    write_card(read_entry(poet, root=entry.root))
    assert path.read_text() == mine


def test_a_persons_text_is_not_replaced(entry, poet):
    path = poet / "README.md"
    path.write_text("---\ntags: [a]\nlicense: mit\n---\n# Mine\n")
    before = tree(poet)
    with pytest.raises(LibraryError, match="force"):
        write_card(entry)
    assert tree(poet) == before
    write_card(entry, force=True)
    told = ModelCard.load(path).data.to_dict()
    assert (told["license"], told["tags"], told["base_model"]) == ("mit", ["a"], "org/base")
    assert "# Mine" not in path.read_text()


def test_a_file_has_a_page_of_its_own(root):
    path = kohya(root / "style.safetensors", **{"modelspec.trigger_phrase": "an axe"})
    page = write_card(read_entry(path, root=root))
    assert page == root / "style.md"
    told = ModelCard.load(page).data.to_dict()
    assert (told["library_name"], told["pipeline_tag"]) == ("diffusers", "text-to-image")
    assert "load_lora_weights" in page.read_text()


def test_paths_of_this_machine_are_not_told(entry, tmp_path):
    (tmp_path / "secret place" / "base").mkdir(parents=True)
    local = dataclasses.replace(entry, base=str(tmp_path / "secret place" / "base"))
    text = write_card(local, force=True).read_text()
    assert "secret place" not in text
    assert str(tmp_path) not in text
    assert "base_model" not in text
    assert "`base`" in text


@pytest.mark.parametrize(("name", "expected"), [
    ("org/base", True), ("base", False), ("/abs/base", False), ("./x/base", False),
    ("a/b/c", False), ("../x", False), ("C:\\x", False), ("", False), ("a/", False),
])  # fmt: skip
def test_names_of_repositories(name, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_repo(name) is expected
    if expected:
        os.makedirs(name)
        assert not is_repo(name)


def test_texts_of_others_are_no_markup(poet, root):
    title = "<script>alert(1)</script> [x](javascript:y) `z` | # a"
    entry = edit(read_entry(poet, root=root), title=title, description="<img src=x onerror=1>")
    body = write_card(entry).read_text().split(BEGIN)[1]
    assert "<script" not in body
    assert "<img" not in body
    assert body.count("](") == body.count("\\](") == 1  # a bracket behind a backslash is a letter
    assert "&lt;img src=x onerror=1&gt;" in body


@pytest.mark.parametrize("recipe", [[], {"lora": 3, "train": {"lr": {"a": 1}, "steps": [1, {}]}}])
def test_odd_recipes_are_left_out(recipe, made, root):
    folder = Path(shutil.copytree(made, root / "x"))
    told = json.loads((folder / "lorakit.json").read_text())
    told["run"] = {"recipe": recipe, "data": {"train": ["x"]}, "metrics": [1]}
    (folder / "lorakit.json").write_text(json.dumps(told))
    text = write_card(read_entry(folder, root=root)).read_text()
    assert "No metrics are recorded" in text
    assert "| lr |" not in text
