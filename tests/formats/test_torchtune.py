"""torchtune's adapters: its names, Meta's order of rows, and an alpha that no file says."""

from __future__ import annotations

import io
import json

import pytest
import safetensors.torch
import torch

import lorakit as lk
from families import adapter, build
from lorakit.core.errors import AdapterFileError, LorakitError, UnsupportedError
from lorakit.core.state import AdapterState, LowRankState
from lorakit.formats import torchtune
from lorakit.formats.content import Options
from lorakit.formats.load import read_adapter
from lorakit.formats.pickled import read_pickle
from lorakit.formats.save import write_adapter
from rotary import (
    KEY,
    LENGTH,
    QUERY,
    adapter_of_weights,
    scores_by_halves,
    scores_by_pairs,
)

FAMILIES = ("llama", "mistral", "gemma", "gemma2", "qwen2")


def held(folder) -> dict[str, torch.Tensor]:
    return read_pickle((folder / torchtune.FILE).read_bytes(), "here")


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_there_and_back_is_bit_for_bit(family, dora, tmp_path):
    method = lk.DoRA(alpha=8) if dora else None
    source = adapter(tmp_path / "a", family, method=method)
    there = lk.convert(source, tmp_path / "b", to="torchtune", model=build(family))
    assert there.untold == {"alpha": 8.0}
    assert "has to be told: alpha=8.0" in str(there)
    told = json.loads((tmp_path / "b" / "lorakit.json").read_text())["adapter"]
    assert told["untold"] == {"alpha": 8.0}
    lk.convert(tmp_path / "b", tmp_path / "c", model=build(family), alpha=8)
    before, after = read_adapter(source), read_adapter(tmp_path / "c")
    assert before.low_rank.keys() == after.low_rank.keys()
    assert after.method == ("dora" if dora else "lora")
    for path, low in before.low_rank.items():
        other = after.low_rank[path]
        assert torch.equal(low.A, other.A)
        assert torch.equal(low.B, other.B)
        assert not dora or torch.equal(low.magnitude, other.magnitude)
        assert before.scale(low) == after.scale(other)
    lk.convert(tmp_path / "c", tmp_path / "d", to="torchtune", model=build(family))
    first, second = held(tmp_path / "b"), held(tmp_path / "d")
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("family", FAMILIES)
def test_query_and_key_turn_as_the_family_does_there(family, tmp_path):
    model = build(family)
    state = adapter_of_weights(model)
    write_adapter(state, tmp_path / "a")
    lk.convert(tmp_path / "a", tmp_path / "b", to="torchtune", model=model)
    found = held(tmp_path / "b")
    theirs = [found[f"layers.0.attn.{leaf}_proj.lora_b.weight"] for leaf in "qk"]
    ours = [low.B for low in state.low_rank.values()]
    x = torch.randn(1, LENGTH, model.config.hidden_size)
    expected = scores_by_halves(model, x, *ours)
    there = scores_by_halves if family == "qwen2" else scores_by_pairs
    torch.testing.assert_close(there(model, x, *theirs), expected)
    assert not torch.allclose(scores_by_pairs(model, x, *ours), expected, atol=1e-3)


def test_magnitudes_go_with_their_rows(tmp_path):
    model = build("llama")
    state = adapter_of_weights(model)
    state.method = "dora"
    for low in state.low_rank.values():
        low.magnitude = low.B[:, 0].clone()
    write_adapter(state, tmp_path / "a")
    lk.convert(tmp_path / "a", tmp_path / "b", to="torchtune", model=model)
    found = held(tmp_path / "b")
    for leaf in "qk":
        rows = found[f"layers.0.attn.{leaf}_proj.lora_b.weight"]
        assert torch.equal(found[f"layers.0.attn.{leaf}_proj.magnitude"], rows[:, 0])
    assert not torch.equal(rows, state.low_rank[KEY].B)


def test_names_are_torchtunes(tmp_path):
    source = adapter(tmp_path / "a", "llama", targets={"*.0.*_proj": 2, "lm_head": 2})
    lk.convert(source, tmp_path / "b", to="torchtune", model=build("llama"))
    found = held(tmp_path / "b")
    stems = {key.removesuffix(".lora_b.weight") for key in found if ".lora_b." in key}
    # A model of torchtune has adapters in all layers, if in one.
    assert stems == {
        *(f"layers.{n}.attn.{leaf}_proj" for n in (0, 1) for leaf in ("q", "k", "v", "output")),
        *(f"layers.{n}.mlp.w{place}" for n in (0, 1) for place in (1, 2, 3)), "output",
    }  # fmt: skip
    changed = {stem for stem in stems if found[f"{stem}.lora_b.weight"].any()}
    assert changed == {stem for stem in stems if ".1." not in stem}


def test_one_rank_and_alpha_for_all(tmp_path):
    torch.manual_seed(0)
    low = {
        path: LowRankState("linear", torch.randn(rank, 32), torch.randn(rows, rank), alpha)
        for path, rank, rows, alpha in ((QUERY, 2, 32, 3.0), (KEY, 5, 16, 0.7))
    }
    state = AdapterState(low, rslora=True)
    write_adapter(state, tmp_path / "a")
    proof = lk.convert(tmp_path / "a", tmp_path / "b", to="torchtune", model=build("llama"))
    assert proof.untold == {"alpha": 5.0}
    assert {v.shape[0] for k, v in held(tmp_path / "b").items() if "lora_a" in k} == {5}
    lk.convert(tmp_path / "b", tmp_path / "c", model=build("llama"), alpha=5)
    after = read_adapter(tmp_path / "c")
    for path, own in low.items():
        other = after.low_rank[path]
        torch.testing.assert_close(
            after.scale(other) * other.B @ other.A, state.scale(own) * own.B @ own.A
        )


def test_what_the_file_does_not_say_must_be_said(tmp_path):
    source = adapter(tmp_path / "a", "llama")
    with pytest.raises(UnsupportedError, match="Pass the base model"):
        lk.convert(source, tmp_path / "b", to="torchtune")
    lk.convert(source, tmp_path / "b", to="torchtune", model=build("llama"))
    lk.convert(tmp_path / "b", tmp_path / "told", model=build("llama"))  # the manifest says alpha
    assert lk.diff(source, tmp_path / "told").same
    with pytest.raises(AdapterFileError, match=r"alpha is 8.0 by lorakit.json, and 4.0"):
        lk.convert(tmp_path / "b", tmp_path / "c", alpha=4.0, model=build("llama"))
    (tmp_path / "b" / "lorakit.json").unlink()
    with pytest.raises(AdapterFileError, match="Pass alpha"):
        lk.convert(tmp_path / "b", tmp_path / "c", model=build("llama"))
    with pytest.raises(UnsupportedError, match="Pass the base model"):
        lk.convert(tmp_path / "b", tmp_path / "c", alpha=8)
    with pytest.raises(UnsupportedError, match="'phi3'; torchtune is known here for llama"):
        lk.convert(tmp_path / "b", tmp_path / "c", alpha=8, model=build("phi3"))
    with pytest.raises(AdapterFileError, match="lorakit convert"):
        lk.load(build("llama"), tmp_path / "b" / torchtune.FILE)
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("targets", [{"*embed_tokens": 2}, {"score": 2}])
def test_what_torchtune_has_no_adapter_for(targets, tmp_path):
    low = LowRankState("linear", torch.ones(1, 32), torch.ones(3, 1), 1.0)
    path = next(iter(targets)).replace("*", "model.")
    file = tmp_path / "x"
    with pytest.raises(UnsupportedError, match=f"no adapter for {path}"):
        torchtune.save(AdapterState({path: low}), dict(build("llama").named_modules()), Options())
    assert not file.exists()


def test_safetensors_are_read_as_well(tmp_path):
    source = adapter(tmp_path / "a", "llama")
    lk.convert(source, tmp_path / "b", to="torchtune", model=build("llama"))
    file = tmp_path / "adapter.safetensors"
    safetensors.torch.save_file(held(tmp_path / "b"), file)
    state = read_adapter(file, model=build("llama"), options=Options(alpha=8))
    assert torch.equal(state.low_rank[QUERY].B, read_adapter(source).low_rank[QUERY].B)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("Q.lora_b.weight"), "lacks B"),
        (lambda t: t.pop("Q.lora_a.weight"), "lacks A"),
        (lambda t: t.update({"Q.lora_b.weight": torch.ones(32, 3)}), "ranks"),
        (lambda t: t.update({"Q.lora_b.weight": torch.ones(30, 2)}), "heads of 8"),
        (lambda t: t.update({"Q.lora_b.weight": torch.ones(40, 2)}), "another base|this model"),
        (lambda t: t.update({"Q.magnitude": torch.ones(31)}), "magnitudes"),
        (lambda t: t.update({"Q.magnitude": torch.ones(32)}), "for some modules"),
        (lambda t: t.update({"Q.magnitude": torch.tensor(1.0)}), "magnitudes"),
        (lambda t: t.update({"layers.0.sa_norm.scale": torch.ones(32)}), "sa_norm"),
        (lambda t: t.update({"layers.0.attn.q_proj.weight": torch.ones(32, 32)}), "q_proj.weight"),
        (lambda t: t.update({"decoder.layers.0.attn.q_proj.lora_a.weight": torch.ones(2, 32),
                             "decoder.layers.0.attn.q_proj.lora_b.weight": torch.ones(32, 2)}),
         "decoder"),
        (lambda t: t.update({"layers.{}.mlp.w1.lora_a.weight": torch.ones(2, 32)}), r"\{\}"),
        (lambda t: t.update({"layers.00.mlp.w1.lora_a.weight": torch.ones(2, 32)}), "00"),
        (lambda t: t.update({"layers.7.mlp.w1.lora_a.weight": torch.ones(2, 32),
                             "layers.7.mlp.w1.lora_b.weight": torch.ones(48, 2)}), "does not have"),
        (lambda t: t.update({"Q.lora_a.weight": torch.full((2, 32), torch.nan)}), "not finite"),
        (lambda t: t.update({"Q.lora_a.weight": torch.ones(2, 32, 1, 1),
                             "Q.lora_b.weight": torch.ones(32, 2, 1, 1)}), "linear layer"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_an_error(change, message, tmp_path):
    module = "layers.0.attn.q_proj"
    tensors = {
        f"{stem}.lora_{part}.weight": torch.ones(*shape)
        for stem, rows in (("Q", 32), ("layers.0.attn.k_proj", 16))
        for part, shape in (("a", (2, 32)), ("b", (rows, 2)))
    }
    change(tensors)
    file = io.BytesIO()
    torch.save({key.replace("Q.", f"{module}."): value for key, value in tensors.items()}, file)
    (tmp_path / "adapter_0.pt").write_bytes(file.getvalue())
    with pytest.raises(LorakitError, match=message):
        read_adapter(
            tmp_path / "adapter_0.pt", model=build("llama"), options=Options(alpha=4), pickles=True
        )
