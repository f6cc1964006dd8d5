"""llama.cpp's adapters: the same change under its names, in its order of rows, in its container."""

from __future__ import annotations

import json
import struct

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lorakit as lk
from families import adapter, build, randomise
from lorakit.core.errors import (
    AdapterFileError,
    BaseMismatchError,
    LorakitError,
    SaveError,
    UnsupportedError,
)
from lorakit.core.site import own_modules
from lorakit.core.state import AdapterState, LowRankState
from lorakit.formats import gguf, gguf_file
from lorakit.formats.content import Options
from lorakit.formats.load import read_adapter
from lorakit.formats.save import write_adapter
from lorakit.layers.fused import slices_of
from rotary import LENGTH, adapter_of_weights, scores_by_halves, scores_by_pairs

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3", "phi3", "gpt2",
            "gpt_neox")  # fmt: skip


def read(folder):
    return gguf_file.read((folder / gguf.FILE).read_bytes(), "here")


@pytest.mark.parametrize("family", FAMILIES)
def test_there_and_back_is_bit_for_bit(family, tmp_path):
    source = adapter(tmp_path / "a", family)
    there = lk.convert(source, tmp_path / "b", to="gguf", model=build(family))
    assert there.largest < 1e-7
    back = lk.convert(tmp_path / "b", tmp_path / "c")  # the base is needed for writing alone
    assert back.from_format == "gguf"
    before, after = read_adapter(source), read_adapter(tmp_path / "c")
    assert before.low_rank.keys() == after.low_rank.keys()
    for path, low in before.low_rank.items():
        other = after.low_rank[path]
        assert torch.equal(low.A, other.A)
        assert torch.equal(low.B, other.B)
        assert before.scale(low) == after.scale(other)
    again = lk.convert(tmp_path / "c", tmp_path / "d", to="gguf", model=build(family))
    assert (tmp_path / "b" / gguf.FILE).read_bytes() == (tmp_path / "d" / gguf.FILE).read_bytes()
    assert not again.dropped

    x = torch.arange(6)[None]
    models = [build(family) for _ in range(2)]
    lk.load(models[0], source)
    lk.load(models[1], tmp_path / "b")
    assert torch.equal(models[0](input_ids=x).logits, models[1](input_ids=x).logits)


@pytest.mark.parametrize("family", ["llama", "mistral"])
def test_query_and_key_turn_as_meta_has_them(family, tmp_path):
    # Adapters that are the weights themselves: what the file holds are the weights it is for.
    model = build(family)
    state = adapter_of_weights(model)
    write_adapter(state, tmp_path / "a")
    lk.convert(tmp_path / "a", tmp_path / "b", to="gguf", model=model)
    held = read(tmp_path / "b")[1]
    theirs = [held[f"blk.0.attn_{leaf}.weight.lora_b"] for leaf in "qk"]
    ours = [low.B for low in state.low_rank.values()]
    x = torch.randn(1, LENGTH, model.config.hidden_size)
    expected = scores_by_halves(model, x, *ours)
    torch.testing.assert_close(scores_by_pairs(model, x, *theirs), expected)
    assert not torch.allclose(scores_by_pairs(model, x, *ours), expected, atol=1e-3)


def test_fused_heads_become_blocks(tmp_path):
    path = "gpt_neox.layers.0.attention.query_key_value"
    model = build("gpt_neox")
    B = torch.randn(96, 2)
    write_adapter(AdapterState({path: LowRankState("linear", torch.randn(2, 32), B, 2.0)}),
                  tmp_path / "a")  # fmt: skip
    lk.convert(tmp_path / "a", tmp_path / "b", to="gguf", model=model)
    slices = slices_of(model, path)
    expected = torch.cat([B[slices[part]] for part in "qkv"])
    assert torch.equal(read(tmp_path / "b")[1]["blk.0.attn_qkv.weight.lora_b"], expected)


def test_the_container_says_what_llama_cpp_asks(tmp_path):
    source = adapter(tmp_path / "a", "qwen2", targets={"*q_proj": 2, "*down_proj": 4})
    lk.convert(source, tmp_path / "b", to="gguf", model=build("qwen2"))
    values, tensors = read(tmp_path / "b")
    # alpha / rank is 4 for one and 2 for the other: one alpha says both.
    assert values == {
        "general.architecture": "qwen2", "general.type": "adapter", "adapter.type": "lora",
        "adapter.lora.alpha": 8.0, "qwen2.attention.key_length": 8,
    }  # fmt: skip
    assert tensors["blk.1.ffn_down.weight.lora_a"].shape == (4, 48)
    assert tensors["blk.1.ffn_down.weight.lora_b"].shape == (32, 4)
    data = (tmp_path / "b" / gguf.FILE).read_bytes()
    assert data[:8] == b"GGUF\3\0\0\0"
    assert len(data) % 32 == 0


def test_scales_that_differ_go_into_b(tmp_path):
    torch.manual_seed(0)
    low = {
        f"model.layers.{n}.mlp.up_proj": LowRankState(
            "linear", torch.randn(3, 32), torch.randn(48, 3).half(), alpha
        )
        for n, alpha in enumerate((3.0, 0.7))
    }
    state = AdapterState(low, rslora=True)
    write_adapter(state, tmp_path / "a")
    lk.convert(tmp_path / "a", tmp_path / "b", to="gguf", model=build("llama"))
    values, tensors = read(tmp_path / "b")
    for n, own in enumerate(low.values()):
        A, B = (tensors[f"blk.{n}.ffn_up.weight.lora_{part}"] for part in "ab")
        there = values["adapter.lora.alpha"] / B.shape[1] * B @ A  # as its graph computes it
        torch.testing.assert_close(there, state.scale(own) * own.B.float() @ own.A)


def test_a_table_is_looked_up(tmp_path):
    model = build("llama")
    source = adapter(tmp_path / "a", "llama", targets={"*embed_tokens": 2, "lm_head": 2})
    lk.convert(source, tmp_path / "b", to="gguf", model=model)
    A, B = (read(tmp_path / "b")[1][f"token_embd.weight.lora_{part}"] for part in "ab")
    low = read_adapter(source).low_rank["model.embed_tokens"]
    tokens = torch.tensor([3, 60])
    torch.testing.assert_close(A[tokens] @ B.T, (low.B @ low.A).T[tokens])
    lk.load(model, tmp_path / "b")
    tied = adapter(tmp_path / "c", "llama-tied", targets={"*embed_tokens": 2})
    with pytest.raises(UnsupportedError, match="ties its head"):
        lk.convert(tied, tmp_path / "d", to="gguf", model=build("llama-tied"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": lk.DoRA()}, "it is a DoRA"),
        ({"method": lk.LoRA(extras=("model.norm",))}, "no place for 1 parts"),
        ({"family": "bert"}, "'bert'; gguf is known here for"),
        ({"family": "gpt2", "targets": {"*wpe": 2}}, "no tensor there for transformer.wpe"),
    ],
)
def test_what_llama_cpp_cannot_hold_is_refused(options, message, tmp_path):
    family = options.pop("family", "llama")
    source = adapter(tmp_path / "a", family, **options)
    with pytest.raises(UnsupportedError, match=message):
        lk.convert(source, tmp_path / "b", to="gguf", model=build(family))
    assert not (tmp_path / "b").exists()


def test_the_base_is_needed_and_must_be_the_right_one(tmp_path):
    source = adapter(tmp_path / "a", "llama")
    with pytest.raises(UnsupportedError, match="Pass the base model"):
        lk.convert(source, tmp_path / "b", to="gguf")
    lk.convert(source, tmp_path / "b", to="gguf", model=build("llama"))
    with pytest.raises(BaseMismatchError, match="'llama', and this model is a 'qwen2'"):
        lk.load(build("qwen2"), tmp_path / "b" / gguf.FILE)
    values, tensors = read(tmp_path / "b")
    wrong = tmp_path / "wrong.gguf"
    wrong.write_bytes(gguf_file.write({**values, "llama.attention.key_length": 4}, tensors))
    with pytest.raises(BaseMismatchError, match="heads of 4; this model has heads of 8"):
        lk.load(build("llama"), wrong)
    del values["llama.attention.key_length"]  # as llama.cpp's own script writes it
    file = tmp_path / "theirs.gguf"
    file.write_bytes(gguf_file.write(values, tensors))
    with pytest.raises(UnsupportedError, match="size of a head"):
        read_adapter(file)
    lk.load(build("llama"), file)


def test_what_others_write_is_read(tmp_path):
    factors = {"blk.0.ffn_up.weight.lora_a": torch.randn(1, 32).bfloat16(),
               "blk.0.ffn_up.weight.lora_b": torch.randn(48, 1).half()}  # fmt: skip
    values = {"general.architecture": "qwen2", "general.type": "adapter", "adapter.type": "lora",
              "general.name": "x", "adapter.lora.task_name": "y"}  # fmt: skip
    file = tmp_path / "x.gguf"
    file.write_bytes(gguf_file.write(values, factors))
    ((path, low),) = (state := read_adapter(file)).low_rank.items()
    assert path == "model.layers.0.mlp.up_proj"
    assert state.scale(low) == 1  # no alpha: llama.cpp then scales by 1
    assert (low.A.dtype, low.B.dtype) == (torch.bfloat16, torch.float16)
    flat = {**factors, "blk.0.ffn_up.weight.lora_a": factors["blk.0.ffn_up.weight.lora_a"][0]}
    file.write_bytes(gguf_file.write(values, flat))  # as ggml itself writes a rank of 1
    assert torch.equal(read_adapter(file).low_rank[path].A, low.A)
    file.write_bytes(lists(gguf_file.write(values, factors)))
    assert torch.equal(read_adapter(file).low_rank[path].B, low.B)


def lists(data: bytes) -> bytes:
    """The file with two arrays before its other values."""
    texts = named("tags", struct.pack("<IIQ", 9, 8, 2) + text("a") + text("bc"))
    numbers = named("sizes", struct.pack("<IIQ3i", 9, 5, 3, 1, 2, 3))
    count = int.from_bytes(data[16:24], "little") + 2
    head = data[:16] + count.to_bytes(8, "little") + texts + numbers
    end = data.rindex(b"lora_b") + 6 + 4 + 16 + 4 + 8  # the last entry of the table
    table = head + data[24:end]
    return table + bytes(-len(table) % 32) + data[-(-end // 32) * 32 :]


def text(word: str) -> bytes:
    return struct.pack("<Q", len(word)) + word.encode()


def named(key: str, value: bytes) -> bytes:
    return text(key) + value


VALUES = {"general.architecture": "llama", "general.type": "adapter", "adapter.type": "lora",
          "adapter.lora.alpha": 2.0, "llama.attention.key_length": 8}  # fmt: skip
FACTORS = {"blk.0.attn_q.weight.lora_a": torch.ones(2, 32),
           "blk.0.attn_q.weight.lora_b": torch.ones(32, 2)}  # fmt: skip
GOOD = gguf_file.write(VALUES, FACTORS)


def changed(place: int, data: bytes) -> bytes:
    return GOOD[:place] + data + GOOD[place + len(data) :]


DAMAGED = {
    "nothing": (b"", "ends before"),
    "another file": (b"PK\3\4" + GOOD[4:], "no GGUF"),
    "an older version": (changed(4, b"\1"), "version 1"),
    "big-endian": (changed(4, b"\0\0\0\3"), "another byte order"),
    "tensors without end": (changed(8, b"\xff" * 8), "claims"),
    "values without end": (changed(16, b"\xff" * 8), "claims"),
    "more tensors than there are": (changed(8, b"\3"), "ends before|damaged"),
    "a long name": (changed(24, b"\xff" * 8), "ends before"),
    "no text": (changed(32, b"\xff"), "not UTF-8"),
    "a missing half": (GOOD[: len(GOOD) // 2], "ends before"),
    "a byte too few": (GOOD[:-1], "ends before"),
    "more behind it": (GOOD + b"x", "after the last"),
    "the same value twice": (GOOD.replace(b"adapter.type", b"general.type"), "stands twice"),
    "a list of billions": (
        b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + named("x", struct.pack("<IIQ", 9, 8, 2**40)),
        "an array of",
    ),
    "numbers of billions": (
        b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + named("x", struct.pack("<IIQ", 9, 12, 2**60)),
        "ends before",
    ),
    "lists of lists": (
        b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + named("x", struct.pack("<IIQ", 9, 9, 1)),
        "an array of",
    ),
    "a model": (gguf_file.write({**VALUES, "general.type": "model"}, FACTORS), "type 'model'"),
    "no type": (gguf_file.write({"general.architecture": "llama"}, FACTORS), "type 'model'"),
    "another adapter": (gguf_file.write({**VALUES, "adapter.type": "x"}, FACTORS), "type 'x'"),
    "activated later": (
        gguf_file.write({**VALUES, "adapter.alora.invocation_tokens": 1}, FACTORS), "alora",
    ),
    "an alignment of 3": (gguf_file.write({**VALUES, "general.alignment": 3}, FACTORS), "is 3"),
    "an alignment that is text": (
        gguf_file.write({**VALUES, "general.alignment": "x"}, FACTORS), "alignment"
    ),
    "alpha is nan": (
        gguf_file.write({**VALUES, "adapter.lora.alpha": float("nan")}, FACTORS), "alpha"
    ),
    "alpha is text": (gguf_file.write({**VALUES, "adapter.lora.alpha": "a"}, FACTORS), "alpha"),
    "a head of many digits": (
        gguf_file.write({**VALUES, "llama.attention.key_length": "9" * 5000}, FACTORS), "size of"
    ),
    "a head of 5": (
        gguf_file.write({**VALUES, "llama.attention.key_length": 5}, FACTORS), "heads of 5"
    ),
    "another architecture": (
        gguf_file.write({**VALUES, "general.architecture": "mamba"}, FACTORS), "'mamba'"
    ),
    "a norm": (
        gguf_file.write(VALUES, {**FACTORS, "blk.0.attn_norm.weight": torch.ones(3)}), "attn_norm"
    ),
    "a stray": (gguf_file.write(VALUES, {**FACTORS, "x.weight.lora_a": torch.ones(1, 1)}), "'x'"),
    "half a pair": (
        gguf_file.write(VALUES, {"blk.0.attn_q.weight.lora_a": torch.ones(2, 32)}), "lacks B"
    ),
    "two ranks": (
        gguf_file.write(VALUES, {**FACTORS, "blk.0.attn_q.weight.lora_b": torch.ones(32, 3)}),
        "ranks",
    ),
    "experts": (
        gguf_file.write(VALUES, {k: v[None] for k, v in FACTORS.items()}), "stacked factors"
    ),
    "not finite": (
        gguf_file.write(VALUES, {k: v / 0 for k, v in FACTORS.items()}), "not finite"
    ),
    "quantised": (GOOD.replace(struct.pack("<IQ", 0, 256), struct.pack("<IQ", 8, 256)), "quantis"),
    "elsewhere": (GOOD.replace(struct.pack("<IQ", 0, 256), struct.pack("<IQ", 0, 64)), "begins at"),
    "five axes": (GOOD.replace(struct.pack("<IQQ", 2, 2, 32), struct.pack("<IQQ", 5, 2, 32)),
                  "5 axes"),
    "an axis without end": (
        GOOD.replace(struct.pack("<IQQ", 2, 2, 32), struct.pack("<IQQ", 2, 2**62, 32)),
        "ends before",
    ),
    "no axis": (
        GOOD.replace(struct.pack("<IQQ", 2, 2, 32), struct.pack("<IQQ", 2, 0, 32)), "is empty"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("data", "message"), DAMAGED.values(), ids=DAMAGED.keys())
def test_a_damaged_file_is_an_error(data, message, tmp_path):
    file = tmp_path / "x.gguf"
    file.write_bytes(data)
    with pytest.raises((AdapterFileError, UnsupportedError), match=message):
        read_adapter(file)


@settings(max_examples=400, deadline=None)
@given(place=st.integers(0, len(GOOD) - 1), byte=st.integers(0, 255), cut=st.booleans())
def test_a_changed_byte_is_an_error_or_an_adapter(place, byte, cut):
    data = GOOD[:place] if cut else changed(place, bytes([byte]))
    try:
        values, tensors = gguf_file.read(data, "x")
    except LorakitError:
        return
    assert all(isinstance(value, torch.Tensor) for value in tensors.values())
    assert values["general.type"] == "adapter"


def test_extreme_alphas_are_refused(tmp_path):
    low = LowRankState("linear", torch.ones(1, 32), torch.ones(48, 1), 1e-40)
    state = AdapterState({"model.layers.0.mlp.up_proj": low})
    modules = own_modules(build("llama"))
    with pytest.raises((UnsupportedError, SaveError), match="alpha"):
        gguf.save(state, modules, Options())


@pytest.mark.parametrize("form", ["gguf", "torchtune", "litgpt"])
def test_a_model_saves_its_adapter(form, tmp_path):
    model = build("llama")
    lk.inject(model, lk.plan(model, "attention", 4), method=lk.LoRA(alpha=8))
    randomise(model, "default")
    lk.save(model, tmp_path / "a", format=form)
    told = json.loads((tmp_path / "a" / "lorakit.json").read_text())["adapter"].get("untold", {})
    assert told.get("alpha") == (None if form == "gguf" else 8.0)
    lk.convert(tmp_path / "a", tmp_path / "b", model=build("llama"), **told)
    other = build("llama")
    lk.load(other, tmp_path / "b")
    x = torch.arange(6)[None]
    torch.testing.assert_close(other(input_ids=x).logits, model(input_ids=x).logits)


def test_the_real_reader_agrees(tmp_path):
    package = pytest.importorskip("gguf")
    source = adapter(tmp_path / "a", "llama", targets={"*q_proj": 2, "*embed_tokens": 3})
    lk.convert(source, tmp_path / "b", to="gguf", model=build("llama"))
    values, tensors = read(tmp_path / "b")
    reader = package.GGUFReader(tmp_path / "b" / gguf.FILE)
    assert {key: reader.get_field(key).contents() for key in values} == values
    assert {t.name for t in reader.tensors} == tensors.keys()
    for theirs in reader.tensors:
        assert torch.equal(torch.from_numpy(theirs.data.copy()), tensors[theirs.name])
        assert list(theirs.shape) == list(tensors[theirs.name].shape)[::-1]
