"""What is brought in is whole, the same to the byte, and in one step; or nothing happened."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from shelves import kohya, tree
from test_archive import zipped

import lorakit as lk
from families import adapter, build, randomise
from lorakit.core.errors import AdapterFileError, AdapterNameError, LorakitError, SaveError
from lorakit.formats.load import read_adapter
from lorakit.library.bring import bring
from lorakit.library.read import read_entry

FILES = ("adapter_config.json", "adapter_model.safetensors", "lorakit.json")


def same(place: Path, made: Path) -> bool:
    return all((place / name).read_bytes() == (made / name).read_bytes() for name in FILES)


def test_a_folder(made, root, tmp_path):
    source = Path(shutil.copytree(made, tmp_path / "poet"))
    (source / "README.md").write_text("---\ntags: [verse]\n---\n")
    (source / "run.sh").write_text("rm -rf /")
    (source / "LICENSE").write_text("free")
    (source / "source.json").write_text('{"repo": "a/lie", "revision": "1"}')
    (source / "preview.png").symlink_to("/etc/passwd")
    entry = bring(source, root)
    assert (entry.name, entry.tags, entry.source) == ("poet", ("verse",), "")
    assert same(root / "poet", made)
    assert {p.name for p in (root / "poet").iterdir()} == {*FILES, "README.md", "LICENSE"}
    assert sorted(path.name for path in root.iterdir()) == ["poet"]
    assert os.stat(root / "poet" / FILES[1]).st_mtime_ns == os.stat(made / FILES[1]).st_mtime_ns


def test_a_run_an_archive_and_a_name(made, run, root, tmp_path):
    assert bring(run, root).name == "e2e"
    assert bring(run / "adapter", root, name="Other one").name == "Other one"
    archive = zipped(tmp_path / "style pack.zip", made, "")
    assert bring(archive, root).name == "style pack"
    assert bring(zipped(tmp_path / "x.zip", made, "a/inner"), root).name == "inner"
    assert all(same(root / name, made) for name in ("e2e", "Other one", "style pack", "inner"))


def test_a_file_with_what_is_called_after_it(root, tmp_path):
    source = kohya(tmp_path / "style.safetensors", ss_output_name="axe")
    (tmp_path / "style.md").write_text("---\ntags: [axe]\n---\n")
    entry = bring(source, root, name="other", origin={"repo": "a/b", "revision": "c0ffee"})
    assert (entry.name, entry.title, entry.tags) == ("other", "axe", ("axe",))
    assert entry.source == "a/b@c0ffee"
    assert entry.preview == str(root / "other.preview.png")
    assert (root / "other.safetensors").read_bytes() == source.read_bytes()
    names = ["other.md", "other.preview.png", "other.safetensors", "other.source.json"]
    assert sorted(path.name for path in root.iterdir()) == names


def test_a_taken_name_is_an_error_with_a_free_one(poet, root, made, tmp_path):
    before = tree(root)
    with pytest.raises(AdapterNameError, match="'poet-2' is free"):
        bring(made, root, name="poet")
    with pytest.raises(AdapterNameError):
        bring(made, root, name="../poet")
    kohya(root / "style.safetensors")
    with pytest.raises(AdapterNameError, match="'style-2' is free"):
        bring(kohya(tmp_path / "style.safetensors"), root)
    shutil.rmtree(poet)
    assert before.keys() - tree(root).keys() == {f"poet/{name}" for name in FILES}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("change", [lambda d: d[:-2], lambda d: d[: len(d) // 2], lambda d: b""])
def test_damage_is_refused_and_leaves_nothing(name, change, made, root, tmp_path):
    source = Path(shutil.copytree(made, tmp_path / "poet"))
    (source / name).write_bytes(change((source / name).read_bytes()))
    for given in (source, zipped(tmp_path / "a.zip", source)):
        with pytest.raises(AdapterFileError):
            bring(given, root)
    assert list(root.iterdir()) == []


def test_values_are_looked_at_as_well(root, tmp_path):
    model = build("llama")
    lk.inject(model, lk.plan(model, ["q"], 2))
    randomise(model, "default")
    folder = lk.save(model, tmp_path / "a")
    (folder / "lorakit.json").unlink()
    data = bytearray((folder / FILES[1]).read_bytes())
    data[-4:] = torch.tensor([float("nan")]).numpy().tobytes()
    (folder / FILES[1]).write_bytes(data)
    assert read_entry(folder).problem == ""  # a glance does not see it
    with pytest.raises(AdapterFileError, match="not finite"):
        bring(folder, root)


def test_conversion_with_proof(root, tmp_path):
    source = kohya(tmp_path / "style.safetensors")
    (tmp_path / "style.md").write_text("---\ntags: [axe]\n---\n")
    entry = bring(source, root, to="diffusers")
    assert (entry.format, entry.tags, entry.ranks) == ("diffusers", ("axe",), (4,))
    told = json.loads((root / "style" / "lorakit.json").read_text())["adapter"]["converted"]
    assert told["largest_error"] < 1e-6
    before = read_adapter(source).low_rank
    after = read_adapter(root / "style").low_rank
    assert all(torch.equal(before[path].A, after[path].A) for path in before)
    with pytest.raises(SaveError, match="Did you mean 'kohya'"):
        bring(source, root, to="kohia")
    with pytest.raises(LorakitError):
        bring(source, root, name="g", to="gguf")
    assert sorted(path.name for path in root.iterdir()) == ["style"]


def test_pickles_only_when_asked_and_then_converted(root, tmp_path):
    source = adapter(tmp_path / "a", "llama", targets=["q"])
    lk.convert(source, tmp_path / "b", to="loralib", model=build("llama"))
    pickled = tmp_path / "lora.pt"
    shutil.copy(tmp_path / "b" / "lora.pt", pickled)
    with pytest.raises(AdapterFileError, match="pickle"):
        bring(pickled, root)
    with pytest.raises(AdapterFileError, match="alpha"):
        bring(pickled, root, pickles=True)
    entry = bring(pickled, root, pickles=True, alpha=8.0)
    assert (entry.format, entry.problem) == ("peft", "")
    assert entry.parameters == read_entry(source).parameters
    pickled.write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR.")
    with pytest.raises(AdapterFileError):
        bring(pickled, root, name="x", pickles=True, alpha=8.0)
    assert sorted(path.name for path in root.iterdir()) == ["lora"]


@pytest.mark.parametrize("place", ["nowhere", ".", "notes.txt", "a.zip", "a\0"])
def test_what_holds_no_adapter(place, root, tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "a.zip").write_text("x")
    with pytest.raises(LorakitError):
        bring(tmp_path / place, root)
    with pytest.raises(LorakitError):
        bring(tmp_path, tmp_path / "no-root")
    assert list(root.iterdir()) == []


@pytest.mark.parametrize("name", ["houlsby", "prefix", "vera", "dora"])
def test_other_methods(name, root, tmp_path):
    model = build("gpt2")
    kind = {"houlsby": lk.Houlsby, "prefix": lk.PrefixTuning, "vera": lk.VeRA, "dora": lk.DoRA}
    words = {"houlsby": ["o", "down"], "prefix": "attentions"}.get(name, ["o"])
    lk.inject(model, lk.plan(model, words, 2), method=kind[name]())
    randomise(model, "default")
    entry = bring(lk.save(model, tmp_path / name), root)
    assert (entry.name, entry.method, entry.problem) == (name, name, "")


@pytest.mark.real
def test_published_files(real, root):
    folder = real / "adapters"
    entry = bring(folder / "diffusers_sd15_axe" / "pytorch_lora_weights.safetensors", root)
    assert (entry.format, entry.task, entry.problem) == ("diffusers", "image", "")
    entry = bring(folder / "cloneofsimo" / "lora_disney.safetensors", root)
    assert (entry.format, entry.problem) == ("cloneofsimo", "")
    entry = bring(folder / "peft_regression" / "lora_mlp" / "0.6.1", root, name="m", pickles=True)
    assert (entry.format, entry.ranks) == ("peft", (8,))
