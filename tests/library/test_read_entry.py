"""What a card shows is what the files say, and never more than a page can bear."""

from __future__ import annotations

import json
import os
import shutil

import pytest
from shelves import kohya

import lorakit as lk
from lorakit.core.errors import LibraryError, LorakitError
from lorakit.library.entry import restored
from lorakit.library.read import read_entry

LAUGHS = "a: &a [x, x]\n" + "".join(f"{c}: &{c} [*{p}, *{p}]\n" for p, c in zip("abcdef", "bcdefg"))


def test_a_folder_of_ours(poet, root):
    entry = read_entry(poet, root=root)
    whole = lk.inspect(poet)
    assert (entry.name, entry.shown, entry.root) == ("poet", "poet", str(root))
    assert (entry.base, entry.task, entry.method, entry.format) == (
        "org/base", "chat", "lora", "peft"
    )  # fmt: skip
    assert (entry.ranks, entry.rank, entry.parameters) == ((4,), "4", whole.parameters)
    assert entry.bytes == sum(path.stat().st_size for path in poet.iterdir())
    assert entry.metrics == {"step": 30, "eval_loss": 1.25, "eval_bleu": 31.5}
    assert (entry.run, entry.preview, entry.problem) == (None, None, "")
    assert restored(json.loads(json.dumps(entry.stored()))) == entry
    assert json.loads(json.dumps(entry.as_dict()))["rank"] == "4"


def test_a_run_is_called_by_its_folder_and_the_manifest_wins(run, root):
    entry = read_entry(run / "adapter", root=root)
    assert read_entry(run, root=root) == entry
    assert (entry.name, entry.run) == ("e2e", str(run))
    assert entry.metrics["eval_loss"] == 1.25
    (run / "adapter" / "lorakit.json").unlink()
    entry = read_entry(run, root=root)
    assert (entry.task, entry.base, entry.metrics) == ("chat", "org/base", {"eval_loss": 9.0})


def test_the_page_beside_it(poet, root):
    (poet / "README.md").write_text(
        "---\ntags: [verse, lorakit]\nmodel_name: Poet\ninstance_prompt: in verse, rhyming\n"
        "description: Writes verse.\nwidget:\n- text: Roses\n  output: {text: are red}\n---\n# x\n"
    )
    (poet / "preview.webp").write_bytes(b"RIFF")
    entry = read_entry(poet, root=root)
    assert (entry.title, entry.shown, entry.tags) == ("Poet", "Poet", ("verse", "lorakit"))
    assert entry.triggers == ("in verse", "rhyming")
    assert (entry.description, entry.sample) == ("Writes verse.", "Roses → are red")
    assert entry.preview == str(poet / "preview.webp")


def test_a_file_tells_of_itself(root):
    path = kohya(
        root / "style.v2.safetensors", ss_output_name="Axe", ss_base_model_version="sd_v1",
        ss_tag_frequency=json.dumps({"10_axe": {"axe": 40, "forest": 3}, "5_x": {"axe": 1}}),
        **{"modelspec.trigger_phrase": "an axe", "modelspec.date": "2023-07-01T10:00:00"},
    )  # fmt: skip
    entry = read_entry(path, root=root)
    assert (entry.name, entry.title, entry.base, entry.task) == (
        "style.v2", "Axe", "sd_v1", "image"
    )  # fmt: skip
    assert (entry.format, entry.ranks, entry.triggers) == ("kohya", (4,), ("an axe",))
    assert entry.tags == ("axe", "forest")
    assert entry.date.startswith("2023-0")
    assert entry.preview == str(root / "style.v2.preview.png")


def test_a_folders_page_is_that_of_a_file_alone_in_it(root):
    path = kohya(root / "hub" / "style.safetensors")
    (root / "hub" / "README.md").write_text("---\ntags: [of-the-folder]\n---\n")
    assert read_entry(path).tags == ("of-the-folder",)
    kohya(root / "hub" / "other.safetensors")
    assert read_entry(path).tags == ()
    (root / "hub" / "style.md").write_text("---\ntags: [its own]\n---\n")
    assert read_entry(path).tags == ("its own",)


def test_a_file_that_is_called_as_all_are_shows_its_folder(root):
    entry = read_entry(kohya(root / "axes" / "pytorch_lora_weights.safetensors"), root=root)
    assert (entry.name, entry.shown) == ("pytorch_lora_weights", "axes")
    assert read_entry(entry.path, root=root / "axes").shown == "pytorch_lora_weights"


def test_the_same_place_has_the_same_id(poet, root, tmp_path):
    (tmp_path / "link").symlink_to(root)
    again = read_entry(tmp_path / "link" / "poet")
    assert again.id == read_entry(poet).id
    assert again.path == str(poet)
    assert read_entry(shutil.copytree(poet, root / "other")).id != again.id


@pytest.mark.parametrize("place", ["nowhere", ".", "a\0b", "notes.txt"])
def test_no_adapter_is_a_typed_error(place, root):
    (root / "notes.txt").write_text("x")
    with pytest.raises(LorakitError):
        read_entry(root / place)


HOSTILE_PAGES = {
    "laughs": f"---\n{LAUGHS}tags: *g\n---\n",
    "merged laughs": "---\na: &a {x: 1}\nb: &b {<<: [*a, *a]}\nc: {<<: [*b, *b]}\n---\n",
    "deep": "---\n" + "tags: " + "[" * 50_000 + "\n---\n",
    "code": "---\ntags: !!python/object/apply:os.system [touch pwned]\n---\n",
    "no text": "---\ntags: [1, null, {a: b}, [c]]\nmodel_name: [x]\ndescription: 3\n---\n",
    "long": f"---\nmodel_name: {'x' * 10_000}\n---\n",
    "no end": "---\n" + "tags: [a]\n" * 20_000,
    "a date that is none": "---\ndate: 2020-99-99\n---\n",
    "bytes": "---\ntags: [\x01]\n---\n",
}


@pytest.mark.parametrize("what", HOSTILE_PAGES)
def test_hostile_pages_say_little_and_do_nothing(what, poet, root, monkeypatch):
    monkeypatch.chdir(root)
    (poet / "README.md").write_text(HOSTILE_PAGES[what])
    entry = read_entry(poet, root=root)
    assert entry.problem == ""
    assert entry.tags == ()
    assert len(entry.title) <= 200
    assert entry.description == ""
    assert not (root / "pwned").exists()


def test_texts_are_capped_and_cleaned(root):
    path = kohya(root / "x.safetensors", **{
        "modelspec.title": "a\u202eb\x00\x1b[31m " + "y" * 5000,
        "modelspec.tags": ",".join(f"t{n}" for n in range(5000)),
        "ss_tag_frequency": "[" * 100_000,
        "modelspec.date": "99999-01-01",
    })  # fmt: skip
    entry = read_entry(path)
    assert entry.title.startswith("ab[31m yyy")
    assert len(entry.title) == 200
    assert len(entry.tags) == 50
    assert entry.date[:3] == "202"


def test_other_hostile_files_beside_a_run(run, root):
    (run / "adapter" / "lorakit.json").unlink()
    (run / "metrics.json").write_text('{"a": NaN, "b": 1e999}')
    (run / "recipe.yaml").write_text("task: [chat]\nmodel: {a: b}\n")
    (run / "adapter" / "source.json").write_text('{"repo": ["x"], "revision": 3}')
    entry = read_entry(run, root=root)
    assert (entry.metrics, entry.task, entry.source) == ({}, "causal-lm", "")
    (run / "metrics.json").write_text('{"a": true, "b": "1", "c": 1' + "0" * 400 + ', "d": 2}')
    assert read_entry(run, root=root).metrics == {"d": 2}


@pytest.mark.skipif(os.name == "nt", reason="names there are text")
def test_names_that_are_no_text_are_shown_with_a_mark(poet, root):
    odd = os.fsdecode(os.fsencode(root) + b"/p\xff")
    os.rename(poet, odd)
    entry = read_entry(odd, root=root)
    assert entry.path == odd
    assert entry.shown == "p\ufffd"
    json.dumps(entry.as_dict(), ensure_ascii=False).encode()
    assert restored(json.loads(json.dumps(entry.stored()))) == entry


def test_a_pipe_is_not_waited_for(root):
    os.mkfifo(root / "x.safetensors")
    with pytest.raises(LibraryError):
        read_entry(root / "x.safetensors")
