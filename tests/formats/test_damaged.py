"""A corpus of damaged, foreign and lying adapters: each one a typed error, nothing changed."""

from __future__ import annotations

import json
import os
import pickle
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import lorakit as lk
from families import build, randomise
from lorakit.formats.tensors import FLOATS, is_finite
from test_laws import assert_same, snapshot

CONFIG = "adapter_config.json"
TENSORS = "adapter_model.safetensors"
MANIFEST = "lorakit.json"
Q = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    """A good adapter on q and v of a tiny Llama, as a folder."""
    model = build("llama")
    lk.inject(model, lk.plan(model, ["q", "v"], 4), name="good", method=lk.LoRA(alpha=8))
    randomise(model, "good")
    return lk.save(model, tmp_path_factory.mktemp("good") / "adapter")


def config(change: Callable[[dict], object]) -> Callable[[Path], None]:
    """Damage: a change of the config's keys."""

    def damage(folder: Path) -> None:
        value = json.loads((folder / CONFIG).read_text())
        change(value)
        (folder / CONFIG).write_text(json.dumps(value))

    return damage


def put(**keys: object) -> Callable[[Path], None]:
    return config(lambda value: value.update(keys))


def without(key: str) -> Callable[[Path], None]:
    return config(lambda value: value.pop(key))


def tensors(change: Callable[[dict], object]) -> Callable[[Path], None]:
    """Damage: a change of the tensors."""

    def damage(folder: Path) -> None:
        value = load_file(folder / TENSORS)
        value = change(value) or value
        save_file({k: v.contiguous() for k, v in value.items()}, folder / TENSORS)

    return damage


def data(change: Callable[[bytes], bytes], name: str = TENSORS) -> Callable[[Path], None]:
    """Damage: a change of a file's bytes."""
    return lambda folder: (folder / name).write_bytes(change((folder / name).read_bytes()))


def header(change: Callable[[dict], object]) -> Callable[[Path], None]:
    """Damage: a change of the safetensors header, the rest of the file as it was."""

    def damage(content: bytes) -> bytes:
        size = struct.unpack("<Q", content[:8])[0]
        value = json.loads(content[8 : 8 + size])
        change(value)
        text = json.dumps(value).encode()
        return struct.pack("<Q", len(text)) + text + content[8 + size :]

    return data(damage)


def fingerprint(change: Callable[[dict], object]) -> Callable[[Path], None]:
    """Damage: a change of what the manifest says of the base."""

    def damage(folder: Path) -> None:
        value = json.loads((folder / MANIFEST).read_text())
        change(value["base"]["fingerprint"])
        (folder / MANIFEST).write_text(json.dumps(value))

    return damage


def first(value: dict, end: str) -> str:
    return next(key for key in value if key.endswith(end))


def renamed(old: str, new: str) -> Callable[[Path], None]:
    return tensors(lambda value: {key.replace(old, new): v for key, v in value.items()})


def poison(number: float) -> Callable[[Path], None]:
    def change(value: dict) -> None:
        value[first(value, "lora_A.weight")][0, 0] = number

    return tensors(change)


class _Bomb:
    def __reduce__(self):
        return os.mkdir, ("bomb-went-off",)


FOREIGN: dict[str, Callable[[Path], object]] = {
    # files
    "no config": lambda folder: (folder / CONFIG).unlink(),
    "no tensors": lambda folder: (folder / TENSORS).unlink(),
    "an empty folder": lambda folder: [file.unlink() for file in folder.iterdir()],
    "only a pickle": lambda folder: (folder / TENSORS).rename(folder / "adapter_model.bin"),
    "empty tensors file": data(lambda content: b""),
    "eight bytes": data(lambda content: content[:8]),
    "cut in the header": data(lambda content: content[:60]),
    "cut in the middle": data(lambda content: content[: len(content) // 2]),
    "cut by one byte": data(lambda content: content[:-1]),
    "one byte too many": data(lambda content: content + b"\0"),
    "a pickle": data(lambda content: pickle.dumps(_Bomb())),
    "a zip": data(lambda content: b"PK\x03\x04" + content),
    "a web page": data(lambda content: b"<!DOCTYPE html><html>Not Found</html>"),
    "a pointer to large storage": data(
        lambda content: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    ),
    "a huge header": data(lambda content: struct.pack("<Q", 2**60) + content[8:]),
    "a header that is no JSON": data(lambda content: struct.pack("<Q", 4) + b"{{{{" + content),
    "a header without tensors": data(lambda content: struct.pack("<Q", 2) + b"{}"),
    "overlapping tensors": header(
        lambda value: value[Q.replace("0", "1") + ".lora_A.weight"].update(
            data_offsets=value[Q + ".lora_A.weight"]["data_offsets"]
        )
    ),
    "an offset past the end": header(
        lambda value: value[first(value, "lora_B.weight")].update(data_offsets=[0, 2**40])
    ),
    "a shape that is not its bytes": header(
        lambda value: value[first(value, "lora_A.weight")].update(shape=[4, 33])
    ),
    "an unknown dtype": header(
        lambda value: value[first(value, "lora_A.weight")].update(dtype="F33")
    ),
    "config cut": data(lambda content: content[:40], CONFIG),
    "config empty": data(lambda content: b"", CONFIG),
    "config a list": data(lambda content: b"[1, 2]", CONFIG),
    "config not text": data(lambda content: b"\xff\xfe\x00\x01", CONFIG),
    "config with a key twice": data(
        lambda content: content.replace(b'"r": 4', b'"r": 4, "r": 8'), CONFIG
    ),
    "config with NaN": data(
        lambda content: content.replace(b'"lora_alpha": 8', b'"lora_alpha": NaN'), CONFIG
    ),
    "config nested deep": data(lambda content: b"[" * 100_000, CONFIG),
    # the config lies
    "rank that is not the tensors'": put(r=8),
    "rank zero": put(r=0),
    "rank as text": put(r="4"),
    "rank true": put(r=True),
    "rank missing": without("r"),
    "alpha missing": without("lora_alpha"),
    "alpha null": put(lora_alpha=None),
    "alpha zero": put(lora_alpha=0),
    "alpha too large": put(lora_alpha=10**400),
    "alpha as text": put(lora_alpha="8"),
    "another method": put(peft_type="ADALORA"),
    "no method": without("peft_type"),
    "rank pattern that is not the tensors'": put(rank_pattern={"q_proj": 2}),
    "rank pattern of text": put(rank_pattern={"q_proj": "4"}),
    "alpha pattern as a list": put(alpha_pattern=[8]),
    "alpha pattern of null": put(alpha_pattern={"q_proj": None}),
    "alpha pattern with lookahead": put(alpha_pattern={"(?=q)q_proj": 4}),
    "alpha pattern that never closes": put(alpha_pattern={"(q_proj": 4}),
    "targets without tensors": put(target_modules=["q_proj", "v_proj", "o_proj"]),
    "tensors without targets": put(target_modules=["q_proj"]),
    "targets that are numbers": put(target_modules=[1, 2]),
    "bias of an unknown kind": put(bias="some"),
    "rsLoRA as text": put(use_rslora="yes"),
    "dropout of one": put(lora_dropout=1.0),
    "DoRA": put(use_dora=True),
    "an initialiser that changed the base": put(init_lora_weights="pissa"),
    "an initialiser by class": put(init_lora_weights={"__import__": "os"}),
    "replicated layers": put(layer_replication=[[0, 1], [0, 1]]),
    "bare parameters": put(target_parameters=["experts.weight"]),
    "a kernel of no points": tensors(
        lambda value: (
            value
            | {
                first(value, "lora_A.weight"): torch.ones(4, 32, 0),
                first(value, "lora_B.weight"): torch.ones(4, 4, 1),
            }
        )
    ),
    "a convolution of no rank": tensors(
        lambda value: (
            value
            | {
                first(value, "lora_A.weight"): torch.ones(4, 3, 2),
                first(value, "lora_B.weight"): torch.ones(4, 0, 1),
            }
        )
    ),
    "token rows": put(trainable_token_indices=[1, 2]),
    "a setting from the future": put(quantum_mode=3),
    "layers by text": put(layers_to_transform="all"),
    # the tensors lie
    "NaN": poison(float("nan")),
    "infinity": poison(float("inf")),
    "whole numbers": tensors(lambda value: {k: v.to(torch.int32) for k, v in value.items()}),
    "eight-bit floats": tensors(
        lambda value: {k: v.to(torch.float8_e4m3fn) for k, v in value.items()}
    ),
    "A alone": tensors(lambda value: {k: v for k, v in value.items() if "lora_A" in k}),
    "one B missing": tensors(
        lambda value: {k: v for k, v in value.items() if k != Q + ".lora_B.weight"}
    ),
    "one layer missing": tensors(
        lambda value: {k: v for k, v in value.items() if "layers.1.self_attn.v" not in k}
    ),
    "A and B exchanged": tensors(
        lambda value: {
            k.replace("lora_A", "x").replace("lora_B", "lora_A").replace("x", "lora_B"): v
            for k, v in value.items()
        }
    ),
    "A transposed": tensors(
        lambda value: {k: v.T if "lora_A" in k else v for k, v in value.items()}
    ),
    "another width": tensors(
        lambda value: {k: torch.cat([v, v], -1) if "lora_A" in k else v for k, v in value.items()}
    ),
    "three dimensions": tensors(lambda value: {k: v[None] for k, v in value.items()}),
    "no prefix": renamed("base_model.model.", ""),
    "keys of kohya": renamed("base_model.model.model.", "lora_unet_"),
    "keys with the adapter's name": renamed(".weight", ".default.weight"),
    "a deeper base": renamed("layers.1.", "layers.7."),
    "another family": renamed("model.layers", "transformer.h"),
    "a tensor that nothing explains": tensors(lambda v: v.update({Q + ".lora_C": torch.ones(2)})),
    "a magnitude": tensors(lambda v: v.update({Q + ".lora_magnitude_vector": torch.ones(32)})),
    "a bias on B": tensors(lambda v: v.update({Q + ".lora_B.bias": torch.ones(32)})),
    "a base weight": tensors(
        lambda v: v.update({"base_model.model.model.norm.weight": torch.ones(32)})
    ),
    "an embedding of a larger vocabulary": tensors(
        lambda v: v.update({"base_model.model.model.embed_tokens.weight": torch.ones(70, 32)})
    ),
    "linear factors for an embedding": renamed("layers.0.self_attn.q_proj", "embed_tokens"),
    "factors for a norm": renamed("self_attn.q_proj", "input_layernorm"),
}

# Damage that the manifest proves, even where the result would load.
SIGNED: dict[str, Callable[[Path], object]] = {
    "one flipped bit": data(lambda content: content[:-1] + bytes([content[-1] ^ 1])),
    "another adapter's tensors": tensors(lambda value: {k: v * 2 for k, v in value.items()}),
    "an edited alpha": put(lora_alpha=16),
    "tensors listed but gone": lambda folder: (folder / TENSORS).unlink(),
    "manifest cut": data(lambda content: content[:50], MANIFEST),
    "manifest of the future": data(
        lambda content: content.replace(b'"schema": 1', b'"schema": 9'), MANIFEST
    ),
    "manifest without files": data(lambda content: b'{"schema": 1}', MANIFEST),
    "a fingerprint of another shape": fingerprint(
        lambda value: next(iter(value["tensors"].values())).update(shape=[65, 32])
    ),
    "a fingerprint of other values": fingerprint(
        lambda value: next(iter(value["tensors"].values())).update(values=[9.0] * 8)
    ),
    "a fingerprint that is text": fingerprint(lambda value: value.update(tensors="none")),
    "a fingerprint of an unknown dtype": fingerprint(
        lambda value: next(iter(value["tensors"].values())).update(dtype="load")
    ),
}
CORPUS = {
    **{k: (v, False) for k, v in FOREIGN.items()},
    **{k: (v, True) for k, v in SIGNED.items()},
}


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_the_corpus_is_large_enough():
    assert len(CORPUS) >= 60


@pytest.mark.parametrize(("damage", "signed"), CORPUS.values(), ids=CORPUS.keys())
def test_damage_is_a_typed_error_and_changes_nothing(damage, signed, good, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "adapter"
    folder.mkdir()
    for file in good.iterdir():
        if signed or file.name != MANIFEST:
            (folder / file.name).write_bytes(file.read_bytes())
    whole = contents(folder)
    damage(folder)
    assert contents(folder) != whole, "the damage does nothing"
    model = build("llama")
    lk.inject(model, lk.plan(model, "o", 2), name="other")
    before = snapshot(model)
    began = time.perf_counter()
    with pytest.raises(lk.LorakitError) as caught:
        lk.load(model, folder, name="bad")
    assert time.perf_counter() - began < 2
    message = str(caught.value)
    assert 40 < len(message) < 600, message
    assert message.rstrip().endswith("."), message
    assert_same(before, snapshot(model))
    assert not Path("bomb-went-off").exists()


def test_the_undamaged_folder_loads_with_and_without_its_manifest(good, tmp_path):
    lk.load(build("llama"), good)
    for name in (CONFIG, TENSORS):
        (tmp_path / name).write_bytes((good / name).read_bytes())
    lk.load(build("llama"), tmp_path)


@pytest.mark.parametrize("place", ["missing", "file.txt", "file.txt/inside"])
def test_places_that_are_no_folder(place, tmp_path):
    (tmp_path / "file.txt").write_text("not an adapter")
    with pytest.raises(lk.LorakitError):
        lk.load(build("llama"), tmp_path / place)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_only_infinities_and_nans_are_not_finite(dtype):
    largest = torch.full((4, 300), torch.finfo(dtype).max, dtype=dtype)
    for values in (largest, -largest, torch.cat([largest, -largest]), largest.new_zeros(3)):
        assert is_finite(values)  # although the sum of some overflows
        for place in (0, len(values) // 2, -1):
            for odd in (torch.inf, -torch.inf, torch.nan):
                broken = values.clone()
                broken[place] = odd
                assert not is_finite(broken)
    both = torch.tensor([torch.inf, -torch.inf], dtype=dtype)
    assert not is_finite(both)
