"""`lorakit library` as a user meets it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile

import pytest
from typer.testing import CliRunner

import lorakit as lk
from families import build, randomise
from lorakit.cli import app
from lorakit.core.errors import LorakitError


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    model = build("llama")
    lk.inject(model, lk.plan(model, ["q"], 2))
    randomise(model, "default")
    model.name_or_path = "org/base"
    return lk.save(model, tmp_path_factory.mktemp("made") / "poet")


@pytest.fixture
def root(made, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    shutil.copytree(made, tmp_path / "loras" / "poet")
    monkeypatch.chdir(tmp_path / "loras")
    return tmp_path / "loras"


def library(*words) -> str:
    done = CliRunner().invoke(app, ["library", *map(str, words)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def data(*words):
    return json.loads(library(*words, "--json"))


def test_listing_and_searching(root, made):
    shutil.copytree(made, root / "runs" / "verse" / "adapter")
    (root / "runs" / "verse" / "recipe.yaml").write_text("task: chat\n")
    assert "poet" in library()
    assert [own["name"] for own in data("list", "--order", "name")] == ["poet", "verse"]
    assert [own["name"] for own in data("ver")] == ["verse"]
    assert [own["name"] for own in data("--task", "chat")] == ["verse"]
    assert [own["name"] for own in data("base", "--limit", "1", "--order", "name")] == ["poet"]
    assert data("--facets")["task"] == {"causal-lm": 1, "chat": 1}
    assert "Did you mean 'import'" in library("imprt", "x")
    assert data("--root", root / "runs")[0]["name"] == "verse"
    shown = library("show", "poet")
    assert "org/base" in shown
    assert data("show", "poet")["ranks"] == [2]


def test_a_damaged_one_is_shown(root):
    (root / "poet" / "adapter_model.safetensors").write_bytes(b"x")
    assert "problem: " in library()
    assert data()[0]["problem"]


def test_one_life(root, made, tmp_path):
    with zipfile.ZipFile(tmp_path / "style.zip", "w") as out:
        for path in made.iterdir():
            out.write(path, path.name)
    assert data("import", tmp_path / "style.zip", "--root", root)["name"] == "style"
    told = data("tag", "style", "a", "b", "--title", "My style", "--trigger", "in style")
    assert told["tags"] == ["a", "b"]
    assert data("tag", "My style", "c", "--remove", "a")["tags"] == ["b", "c"]
    assert data("--tag", "c")[0]["triggers"] == ["in style"]
    assert data("rename", "style", "other")["name"] == "other"
    card = data("card", "other", "--license", "mit")["card"]
    assert card == str(root / "other" / "README.md")
    gone = data("delete", "other")
    assert [own["name"] for own in data()] == ["poet"]
    assert [own["id"] for own in data("trash")] == [gone["id"]]
    assert data("restore", gone["id"])["title"] == "My style"
    data("delete", "other")
    data("delete", "poet")
    assert data("undo")["name"] in ("poet", "other")
    assert [own["name"] for own in data("trash", "--empty", "--older-than", "1")] == []
    assert len(data("trash", "--empty")) == 1
    assert data("trash") == []


@pytest.mark.parametrize(("words", "said"), [
    (["show", "pot"], "Did you mean 'poet'"), (["--order", "nmae"], "Did you mean 'name'"),
    (["import", "nowhere"], "not there"), (["import", "poet"], "'poet-2' is free"),
    (["import", "poet", "--name", "../x"], "slash"), (["rename", "poet", "con"], "reserved"),
    (["delete", "poet", "--whole-run"], "in no run"), (["undo"], "Nothing is in the trash"),
    (["restore", "x"], "trash"), (["push", "poet", "me/x"], "HF_HUB_OFFLINE"),
    (["pull", "me/x"], "HF_HUB_OFFLINE"), (["--root", "nowhere"], "is no folder"),
    (["tag", "poet", "a,b"], "comma"),
])  # fmt: skip
def test_mistakes_are_told(words, said, root):
    before = sorted(root.rglob("*"))
    with pytest.raises(LorakitError, match=said):
        library(*words)
    assert sorted(root.rglob("*")) == before


def test_a_mistake_is_one_line_and_exit_code_2(root):
    command = [sys.executable, "-m", "lorakit", "library", "delete", "poett"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "Did you mean 'poet'" in done.stderr


def test_every_verb_of_the_library_has_help_with_an_example():
    for verb in ("list", "show", "import", "rename", "delete", "restore", "undo", "trash", "tag",
                 "card", "push", "pull"):  # fmt: skip
        text = library(verb, "--help")
        assert f"lorakit library {verb}" in text
        assert "--json" in text
        assert "--root" in text


def test_a_list_that_is_fresh_needs_no_torch(root):
    library()
    code = (
        "import sys; from lorakit.cli import app; app(['library'], standalone_mode=False);"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert done.stdout.endswith("False\n"), done.stderr
    assert "poet" in done.stdout
