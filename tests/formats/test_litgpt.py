"""litgpt's adapters: query, key and value as blocks, and what the file does not say."""

from __future__ import annotations

import io
import itertools

import pytest
import torch
from torch import nn

import lorakit as lk
from families import adapter, build
from lorakit.core.errors import AdapterFileError, LorakitError, UnsupportedError
from lorakit.core.state import AdapterState, LowRankState
from lorakit.formats import litgpt
from lorakit.formats.content import Options
from lorakit.formats.load import read_adapter
from lorakit.formats.pickled import read_pickle
from lorakit.formats.save import write_adapter

FAMILIES = ("llama", "mistral", "gemma", "gemma2", "gemma3", "qwen2", "qwen3", "gpt_neox")
NEOX = "gpt_neox.layers.{}.attention.query_key_value"


def held(folder) -> dict[str, torch.Tensor]:
    return read_pickle((folder / litgpt.FILE).read_bytes(), "here")


def changes(folder, **given) -> dict[str, torch.Tensor]:
    state = read_adapter(folder, **given)
    return {
        path: state.scale(low) * low.B.double() @ low.A.double()
        for path, low in state.low_rank.items()
    }


def same(before, after) -> None:
    for path in before.keys() | after.keys():
        zero = torch.zeros(()).double()
        torch.testing.assert_close(
            *torch.broadcast_tensors(before.get(path, zero), after.get(path, zero)),
            atol=1e-5, rtol=1e-5,
        )  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_there_and_back_is_the_same_change(family, tmp_path):
    source = adapter(tmp_path / "a", family)
    there = lk.convert(source, tmp_path / "b", to="litgpt", model=build(family))
    assert there.untold["enabled"] == (True, True, True)
    told = {**there.untold, "model": build(family)}
    back = lk.convert(tmp_path / "b", tmp_path / "c", **told)
    assert max(there.largest, back.largest) < 1e-6
    same(changes(source), changes(tmp_path / "c"))
    lk.convert(tmp_path / "c", tmp_path / "d", to="litgpt", model=build(family))
    first, second = held(tmp_path / "b"), held(tmp_path / "d")
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


BLOCKS = [enabled for enabled in itertools.product((True, False), repeat=3) if any(enabled)]


@pytest.mark.parametrize("enabled", BLOCKS)
@pytest.mark.parametrize("family", ["llama", "gpt_neox"])
def test_any_blocks_may_be_adapted(family, enabled, tmp_path):
    leaves = [leaf for leaf, on in zip("qkv", enabled) if on]
    if family == "llama":
        targets = {f"*.0.self_attn.{leaf}_proj": 2 for leaf in leaves}
    else:
        targets = {f"{NEOX.format(0)}:{leaf}": 2 for leaf in leaves}
    source = adapter(tmp_path / "a", family, targets=targets)
    model = build(family)
    proof = lk.convert(source, tmp_path / "b", to="litgpt", model=model)
    assert proof.untold["enabled"] == enabled
    found = held(tmp_path / "b")
    # A rank of 2 for each block, in both layers, as litgpt's model has them.
    assert found.keys() == {
        f"transformer.h.{n}.attn.qkv.lora_{part}" for n in (0, 1) for part in "AB"
    }
    assert len(found["transformer.h.1.attn.qkv.lora_A"]) == 2 * sum(enabled)
    assert not found["transformer.h.1.attn.qkv.lora_B"].any()
    lk.convert(tmp_path / "b", tmp_path / "c", model=model, **proof.untold)
    same(changes(source), changes(tmp_path / "c"))

    told = Options(alpha=proof.untold["alpha"])
    sizes = {"llama": (32, 16, 16), "gpt_neox": (32, 32, 32)}[family]
    alike = [
        blocks for blocks in BLOCKS if sum(blocks) == sum(enabled)
        and sum(itertools.compress(sizes, blocks)) == sum(itertools.compress(sizes, enabled))
    ]  # fmt: skip
    if len(alike) == 1:
        read_adapter(tmp_path / "b" / litgpt.FILE, model=model, options=told, pickles=True)
    else:
        with pytest.raises(AdapterFileError, match="several choices"):
            read_adapter(tmp_path / "b" / litgpt.FILE, model=model, options=told, pickles=True)


@pytest.mark.parametrize("family", ["llama", "gpt_neox"])
def test_blocks_act_on_query_key_and_value(family, tmp_path):
    """A forward in litgpt's way, from the file, is that of the adapted layers."""
    torch.manual_seed(0)
    model = build(family)
    source = adapter(tmp_path / "a", family, targets="attention")
    proof = lk.convert(source, tmp_path / "b", to="litgpt", model=model)
    found = held(tmp_path / "b")
    A, B = (found[f"transformer.h.0.attn.qkv.lora_{part}"] for part in "AB")
    x, scale = torch.randn(3, 32), proof.untold["alpha"] / B.shape[1]
    sizes = (32, 16, 16) if family == "llama" else (32, 32, 32)
    theirs = torch.cat(
        [x @ a.T @ b.T for a, b in zip(A.chunk(3), B.split(sizes))], 1
    ).split(sizes, 1)  # fmt: skip
    lk.load(model, source)
    ours = []
    if family == "llama":
        for leaf in "qkv":
            layer = model.get_submodule(f"model.layers.0.self_attn.{leaf}_proj")
            ours.append(layer(x) - nn.functional.linear(x, layer.weight, layer.bias))
    else:
        layer = model.get_submodule(NEOX.format(0))
        change = layer(x) - nn.functional.linear(x, layer.weight, layer.bias)
        # As GPT-NeoX's attention takes its output apart.
        parts = change.view(3, 4, 24).chunk(3, -1)
        ours = [part.reshape(3, 32) for part in parts]
    for one, other in zip(ours, theirs):
        torch.testing.assert_close(one, scale * other, atol=1e-5, rtol=1e-4)


def test_one_switch_adapts_all_of_the_mlp(tmp_path):
    source = adapter(tmp_path / "a", "llama", targets={"*.1.mlp.up_proj": 3, "lm_head": 2})
    lk.convert(source, tmp_path / "b", to="litgpt", model=build("llama"))
    found = held(tmp_path / "b")
    stems = {key[: -len(".lora_A")] for key in found}
    assert stems == {"lm_head", *(f"transformer.h.{n}.mlp.{leaf}" for n in (0, 1)
                                  for leaf in ("fc_1", "fc_2", "proj"))}  # fmt: skip
    assert {len(v) for k, v in found.items() if k.endswith("A")} == {3}
    changed = {key for key, value in found.items() if key.endswith("B") and value.any()}
    assert changed == {"lm_head.lora_B", "transformer.h.1.mlp.fc_2.lora_B"}


def test_scales_and_ranks_that_differ_become_one(tmp_path):
    torch.manual_seed(0)
    low = {
        f"model.layers.{n}.self_attn.{leaf}_proj": LowRankState(
            "linear", torch.randn(rank, 32), torch.randn(rows, rank), alpha
        )
        for n, leaf, rank, rows, alpha in ((0, "q", 2, 32, 3.0), (1, "v", 5, 16, 0.7))
    }
    state = AdapterState(low, rslora=True)
    write_adapter(state, tmp_path / "a")
    proof = lk.convert(tmp_path / "a", tmp_path / "b", to="litgpt", model=build("llama"))
    assert proof.untold == {"alpha": 5.0, "enabled": (True, False, True)}
    lk.convert(tmp_path / "b", tmp_path / "c", model=build("llama"), **proof.untold)
    same(changes(tmp_path / "a"), changes(tmp_path / "c"))


def test_what_the_file_does_not_say_must_be_said(tmp_path):
    source = adapter(tmp_path / "a", "llama")
    with pytest.raises(UnsupportedError, match="Pass the base model"):
        lk.convert(source, tmp_path / "b", to="litgpt")
    lk.convert(source, tmp_path / "b", to="litgpt", model=build("llama"))
    lk.convert(tmp_path / "b", tmp_path / "told", model=build("llama"))
    with pytest.raises(AdapterFileError, match=r"enabled is .* by lorakit\.json"):
        lk.convert(tmp_path / "b", tmp_path / "c", enabled=[True, False, True],
                   model=build("llama"))  # fmt: skip
    (tmp_path / "b" / "lorakit.json").unlink()
    with pytest.raises(AdapterFileError, match="Pass alpha"):
        lk.convert(tmp_path / "b", tmp_path / "c", model=build("llama"))
    with pytest.raises(UnsupportedError, match="Pass the base model"):
        lk.convert(tmp_path / "b", tmp_path / "c", alpha=8)
    with pytest.raises(AdapterFileError, match=r"no choices .* enabled=\[True, False, True\]"):
        lk.convert(tmp_path / "b", tmp_path / "c", alpha=8, enabled=[True, False, True],
                   model=build("llama"))  # fmt: skip
    with pytest.raises(UnsupportedError, match="'phi3'; litgpt is known here for llama"):
        lk.convert(tmp_path / "b", tmp_path / "c", alpha=8, model=build("phi3"))
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": lk.DoRA()}, "no adapter for magnitudes"),
        ({"targets": {"*embed_tokens": 2}}, "no adapter for model.embed_tokens"),
        ({"method": lk.LoRA(bias="all"), "family": "qwen2"}, "no place for"),
    ],
)
def test_what_litgpt_cannot_hold_is_refused(options, message, tmp_path):
    family = options.pop("family", "llama")
    source = adapter(tmp_path / "a", family, **options)
    with pytest.raises(UnsupportedError, match=message):
        lk.convert(source, tmp_path / "b", to="litgpt", model=build(family))
    assert not (tmp_path / "b").exists()


H = "transformer.h.0"
QKV = f"{H}.attn.qkv.lora_"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop(f"{QKV}B"), "lacks B"),
        (lambda t: t.pop(f"{QKV}A"), "lacks A"),
        (lambda t: t.update({f"{QKV}A": torch.ones(5, 32)}), "no choices"),
        (lambda t: t.update({f"{QKV}B": torch.ones(63, 2)}), "no choices"),
        (lambda t: t.update({f"{QKV}B": torch.ones(64, 0)}), "no factors"),
        (lambda t: t.update({f"{QKV}B": torch.ones(64)}), "no factors"),
        (lambda t: t.update({f"{QKV}A": torch.ones(6, 31)}), "this model needs"),
        (lambda t: t.pop(f"{H}.mlp.fc_1.lora_A"), "lacks A"),
        (lambda t: t.update({f"{H}.mlp.fc_1.lora_A": torch.ones(3, 32)}), "ranks"),
        (lambda t: t.update({f"{H}.mlp.fc_1.lora_A": torch.ones(2, 32, 1)}), "no factors"),
        (lambda t: t.update({f"{H}.mlp.fc.lora_A": torch.ones(2, 32)}), r"mlp\.fc'"),
        (lambda t: t.update({f"{H}.attn.qkv.linear.weight": torch.ones(2, 32)}), "linear"),
        (lambda t: t.update({f"{H}.attn.attn.lora_A": torch.ones(6, 32),
                             f"{H}.attn.attn.lora_B": torch.ones(64, 2)}), "older releases"),
        (lambda t: t.update({f"{H}.mlp.experts.0.fc_1.lora_A": torch.ones(6, 32)}), "experts"),
        (lambda t: t.update({"transformer.h.7.mlp.fc_1.lora_A": torch.ones(2, 32),
                             "transformer.h.7.mlp.fc_1.lora_B": torch.ones(48, 2)}),
         "does not have"),
        (lambda t: t.update({f"{QKV}A": torch.full((6, 32), torch.inf)}), "not finite"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_an_error(change, message, tmp_path):
    tensors = {
        f"{QKV}A": torch.ones(6, 32), f"{QKV}B": torch.ones(64, 2),
        f"{H}.mlp.fc_1.lora_A": torch.ones(2, 32), f"{H}.mlp.fc_1.lora_B": torch.ones(48, 2),
    }  # fmt: skip
    change(tensors)
    file = io.BytesIO()
    torch.save({"model": tensors}, file)
    (tmp_path / "lit_model.pth.lora").write_bytes(file.getvalue())
    with pytest.raises(LorakitError, match=message):
        read_adapter(tmp_path / "lit_model.pth.lora", model=build("llama"),
                     options=Options(alpha=4), pickles=True)  # fmt: skip
