"""A glance at headers says what reading all of an adapter says, and is as strict about them."""

from __future__ import annotations

import json
import shutil
import struct

import pytest
from safetensors.torch import load_file, save_file
from test_convert import image_adapter

import lorakit as lk
from families import adapter, build, randomise
from lorakit.formats import FORMATS
from lorakit.formats.content import Options
from lorakit.formats.glance import glance_file, glance_folder
from lorakit.formats.load import read_adapter
from lorakit.formats.save import put_files
from lorakit.formats.tensors import MOST_HEADER
from lorakit.methods import BASELINES, LOW_RANK, METHODS

TENSORS = "adapter_model.safetensors"
IMAGES = ("kohya", "diffusers")


def saved(name: str, folder):
    """An adapter of a method, as `save` writes it."""
    model = build("gpt2" if name in ("bitfit", "prefix") else "llama")
    kind = METHODS[name]
    words = ["q", "o"] if kind in LOW_RANK else kind.words(2)[0]
    lk.inject(model, lk.plan(model, words, 2), method=kind())
    randomise(model, "default")
    return lk.save(model, folder)


METHOD_NAMES = [kind.name for kind in (*LOW_RANK, *BASELINES)]


@pytest.mark.parametrize("name", METHOD_NAMES)
def test_a_glance_agrees_with_reading_all(name, tmp_path):
    folder = saved(name, tmp_path / "a")
    whole = lk.inspect(folder)
    ranks = tuple(sorted({layer.rank for layer in whole.layers}))
    seen = glance_folder(folder)
    # AdaLoRA is a way to train: what is left is a LoRA, and its manifest says how it was made.
    method = name if name == "adalora" else whole.method
    assert (seen.format, seen.method, seen.parameters, seen.ranks) == (
        whole.format, method, whole.parameters, ranks
    )  # fmt: skip
    assert seen.problem == ""
    (folder / "lorakit.json").unlink()
    if name != "vera":  # whose folder does not say how wide its layers are without our manifest
        whole = lk.inspect(folder)
    seen = glance_folder(folder)
    assert (seen.method, seen.parameters, seen.ranks) == (whole.method, whole.parameters, ranks)


@pytest.mark.parametrize("form", IMAGES)
@pytest.mark.parametrize("dora", [False, True])
def test_single_files_without_a_manifest(form, dora, tmp_path):
    state = image_adapter(dora=dora, conv=form == "kohya")
    writer = next(own for own in FORMATS if own.name == form)
    (file,) = writer.save(state, None, Options()).items()
    put_files(tmp_path / "a", dict([file]))
    seen, whole = glance_file(tmp_path / "a" / file[0]), read_adapter(tmp_path / "a" / file[0])
    assert (seen.format, seen.method, seen.task) == (form, whole.method, "image")
    assert seen.ranks == tuple(sorted({low.rank for low in whole.low_rank.values()}))
    assert seen.parameters == sum(value.numel() for value in whole.own())


def test_gguf_and_pickled_formats_of_ours(tmp_path):
    source = adapter(tmp_path / "a", "llama")
    for form in ("gguf", "loralib", "torchtune", "litgpt"):
        lk.convert(source, tmp_path / form, to=form, model=build("llama"))
    seen = glance_folder(tmp_path / "gguf")
    assert (seen.format, seen.method, seen.ranks, seen.problem) == ("gguf", "lora", (4,), "")
    assert seen.parameters == glance_folder(source).parameters
    alone = glance_file(tmp_path / "gguf" / "adapter.gguf")
    assert (alone.ranks, alone.parameters) == (seen.ranks, seen.parameters)
    for form in ("loralib", "torchtune", "litgpt"):
        seen = glance_folder(tmp_path / form)
        assert seen.format == form
        assert "lorakit convert" in seen.problem


def test_what_is_no_adapter_is_none(tmp_path):
    save_file(build("llama").state_dict(), tmp_path / "model.safetensors")
    assert glance_file(tmp_path / "model.safetensors") is None
    assert glance_folder(tmp_path) is None
    whole = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 12) + b"general.type"
    (tmp_path / "m.gguf").write_bytes(whole + struct.pack("<IQ", 8, 5) + b"model")
    assert glance_file(tmp_path / "m.gguf") is None


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return adapter(tmp_path_factory.mktemp("glance") / "a", "llama", targets=["q"])


def nested(data: bytes) -> bytes:
    return b'{"a": ' * 100_000


DAMAGE = {
    "cut": (TENSORS, lambda data: data[:-1]),
    "longer": (TENSORS, lambda data: data + b"\0"),
    "empty": (TENSORS, lambda data: b""),
    "a web page": (TENSORS, lambda data: b"<!DOCTYPE html><html>"),
    "a pointer": (TENSORS, lambda data: b"version https://git-lfs.github.com/spec/v1\n"),
    "a huge header": (TENSORS, lambda data: struct.pack("<Q", MOST_HEADER + 1) + data[8:]),
    "a header that is no JSON": (TENSORS, lambda data: struct.pack("<Q", 4) + b"{{{{"),
    "a config of nothing": ("adapter_config.json", lambda data: b""),
    "a nested config": ("adapter_config.json", nested),
    "a long config": ("adapter_config.json", lambda data: b" " * 2**23),
    "another method": ("adapter_config.json", lambda data: data.replace(b"LORA", b"XLORA")),
    "a nested manifest": ("lorakit.json", nested),
    "a manifest of a list": ("lorakit.json", lambda data: b"[]"),
    "a manifest without base": ("lorakit.json", lambda data: data.replace(b'"base"', b'"basis"')),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_damage_is_a_problem_and_no_exception(what, good, tmp_path):
    folder = shutil.copytree(good, tmp_path / "a")
    name, change = DAMAGE[what]
    (folder / name).write_bytes(change((folder / name).read_bytes()))
    assert glance_folder(folder).problem
    (folder / "lorakit.json").unlink()
    if name != "lorakit.json":
        assert glance_folder(folder).problem


def test_a_manifest_that_lies_changes_only_what_is_shown(good, tmp_path):
    folder = shutil.copytree(good, tmp_path / "a")
    told = json.loads((folder / "lorakit.json").read_text())
    told["adapter"] |= {"ranks": [True, -1, "x", 10**30, 7], "parameters": "many", "method": 3}
    told["base"] |= {"name": ["x"], "task": 7}
    told["files"]["../../outside"] = {"bytes": 3}
    (folder / "lorakit.json").write_text(json.dumps(told))
    seen = glance_folder(folder)
    assert seen.ranks == (7,)
    assert seen.parameters == sum(v.numel() for v in load_file(folder / TENSORS).values())
    assert seen.method == "lora"
    assert "outside" in seen.problem
