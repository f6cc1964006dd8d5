"""Conversion between formats: what is the same stays the same, and nothing is lost in silence."""

from __future__ import annotations

import io
import itertools
import json
import pickle
import zipfile

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import lorakit as lk
from lorakit.core.errors import AdapterFileError, LorakitError, SaveError, UnsupportedError
from lorakit.core.state import AdapterState, LowRankState
from lorakit.formats import FORMATS
from lorakit.formats.content import Content, Options
from lorakit.formats.flat import flatten, unflatten
from lorakit.formats.load import read_adapter
from lorakit.formats.pickled import read_pickle
from lorakit.formats.proof import relative_error

UNET = "unet.down_blocks.0.attentions.0.transformer_blocks.0"
CLIP = "text_encoder.text_model.encoder.layers"
NAMES = [form.name for form in FORMATS if form.name != "vera"]  # which holds VeRA alone


def image_adapter(*, rslora: bool = False, dora: bool = False, conv: bool = True) -> AdapterState:
    """Updates of several ranks and alphas in a U-Net and a text encoder."""
    torch.manual_seed(0)
    shapes = {
        f"{UNET}.attn1.to_q": (4, 8, 8, ()),
        f"{UNET}.attn1.to_out.0": (2, 8, 8, ()),
        f"{UNET}.ff.net.0.proj": (3, 8, 12, ()),
        f"{CLIP}.0.self_attn.q_proj": (4, 6, 6, ()),
        f"{CLIP}.11.mlp.fc1": (4, 6, 10, ()),
    }
    if conv:
        shapes["unet.down_blocks.1.resnets.0.conv1"] = (3, 4 * 9, 6, (3, 3))
        shapes["unet.mid_block.attentions.0.proj_in"] = (2, 4, 6, (1, 1))
    found = {}
    for place, (path, (rank, columns, rows, kernel)) in enumerate(shapes.items()):
        found[path] = LowRankState(
            "convolution" if kernel else "linear", torch.randn(rank, columns),
            torch.randn(rows, rank), float(place + 1), kernel,
            magnitude=torch.rand(rows) if dora else None,
        )  # fmt: skip
    return AdapterState(found, method="dora" if dora else "lora", rslora=rslora)


def text_adapter() -> AdapterState:
    """Updates of one alpha, and a trained head, under a text model's names."""
    torch.manual_seed(0)
    low = {
        f"roberta.encoder.layer.{n}.attention.self.{leaf}": LowRankState(
            "linear", torch.randn(4, 8), torch.randn(8, 4), 8.0
        )
        for n in range(2)
        for leaf in ("query", "value")
    }
    head = {"weight": torch.randn(3, 8), "bias": torch.randn(3)}
    return AdapterState(low, extras={"classifier": head})


def gpt2_adapter() -> AdapterState:
    """An update below a `transformer` that is no part of an image pipeline."""
    low = LowRankState("linear", torch.randn(2, 8), torch.randn(8, 2), 4.0)
    return AdapterState({"transformer.h.0.attn.c_proj": low})


def write(state: AdapterState, folder, name: str):
    form = next(form for form in FORMATS if form.name == name)
    folder.mkdir()
    for file, data in form.save(state, None, Options()).items():
        (folder / file).write_bytes(data)
    return folder


def deltas(folder, **options) -> dict[str, torch.Tensor]:
    """The dense change of every module, in float64."""
    state = read_adapter(folder, pickles=True, options=Options(**options))
    return {
        path: state.scale(low) * low.B.double() @ low.A.double()
        for path, low in state.low_rank.items()
    }


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("rslora", [False, True])
@pytest.mark.parametrize("way", list(itertools.permutations(["peft", "kohya", "diffusers"], 2)))
def test_there_and_back_is_the_same_change(way, rslora, dora, tmp_path):
    first, second = way
    source = write(image_adapter(rslora=rslora, dora=dora), tmp_path / "a", first)
    there = lk.convert(source, tmp_path / "b", to=second)
    back = lk.convert(tmp_path / "b", tmp_path / "c", to=first)
    assert max(there.largest, back.largest) < 1e-6
    assert (there.from_format, there.to_format, there.dropped) == (first, second, ())
    before, after = deltas(source), deltas(tmp_path / "c")
    assert before.keys() == after.keys() == there.errors.keys()
    for path, delta in before.items():
        assert (after[path] - delta).norm() / delta.norm() < 1e-6
    told = json.loads((tmp_path / "b" / "lorakit.json").read_text())["adapter"]["converted"]
    assert told["sha256"] == there.sha256
    if dora:
        magnitudes = [read_adapter(tmp_path / place).low_rank for place in "ac"]
        for path, low in magnitudes[0].items():
            assert torch.equal(low.magnitude, magnitudes[1][path].magnitude)


@pytest.mark.parametrize("other", ["peft"])
def test_loralib_there_and_back(other, tmp_path):
    source = write(text_adapter(), tmp_path / "a", "loralib")
    with pytest.raises(AdapterFileError, match="Pass alpha"):
        lk.convert(source, tmp_path / "b", to=other)
    assert not (tmp_path / "b").exists()
    lk.convert(source, tmp_path / "b", to=other, alpha=8)
    lk.convert(tmp_path / "b", tmp_path / "c", to="loralib")
    before, after = deltas(source, alpha=8), deltas(tmp_path / "c", alpha=8)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[path], after[path]) for path in before)
    heads = [read_adapter(tmp_path / p, pickles=True, options=Options(alpha=8)) for p in "abc"]
    for state in heads:
        assert torch.equal(
            state.extras["classifier"]["weight"], text_adapter().extras["classifier"]["weight"]
        )


def test_a_merged_linear_is_spread_over_its_layer(tmp_path):
    loralib = pytest.importorskip("loralib")
    torch.manual_seed(0)
    layer = loralib.MergedLinear(6, 12, r=2, lora_alpha=4, enable_lora=[True, False, True])
    nn.init.normal_(layer.lora_B)
    model = nn.ModuleDict({"attn": layer})
    (tmp_path / "a").mkdir()
    torch.save(loralib.lora_state_dict(model), tmp_path / "a" / "lora.pt")
    for wrong in (None, [True, True, True], [True, False, False]):
        with pytest.raises(AdapterFileError, match="does not say which"):
            lk.convert(tmp_path / "a", tmp_path / "b", alpha=4, enabled=wrong)
    lk.convert(tmp_path / "a", tmp_path / "b", alpha=4, enabled=[True, False, True])
    plain = nn.ModuleDict({"attn": nn.Linear(6, 12)})
    plain["attn"].load_state_dict({"weight": layer.weight, "bias": layer.bias})
    lk.load(plain, tmp_path / "b")
    x = torch.randn(5, 6)
    torch.testing.assert_close(plain["attn"](x), layer(x))


def test_loralib_embeddings_need_the_base(tmp_path):
    torch.manual_seed(0)
    low = LowRankState("embedding", torch.randn(2, 9), torch.randn(5, 2), 4.0)
    source = write(AdapterState({"wte": low}), tmp_path / "a", "loralib")
    with pytest.raises(UnsupportedError, match="Pass the base model"):
        lk.convert(source, tmp_path / "b", alpha=4)
    base = nn.ModuleDict({"wte": nn.Embedding(9, 5)})
    lk.convert(source, tmp_path / "b", alpha=4, model=base)
    lk.load(base, tmp_path / "b")
    expected = base["wte"].weight + 2 * (low.B @ low.A).T
    torch.testing.assert_close(base["wte"](torch.arange(9)), expected)


def test_what_a_format_cannot_hold_is_refused_or_listed(tmp_path):
    state = image_adapter()
    state.extras["unet.conv_out"] = {"weight": torch.randn(3)}
    state.biases["unet.conv_in"] = torch.randn(3)
    state.bias = "all"
    source = write(state, tmp_path / "a", "peft")
    for form in ("kohya", "diffusers"):
        with pytest.raises(UnsupportedError, match="no place for 2 parts"):
            lk.convert(source, tmp_path / form, to=form)
        assert not (tmp_path / form).exists()
        proof = lk.convert(source, tmp_path / form, to=form, drop=True)
        assert proof.dropped == ("unet.conv_out (trained in full)", "unet.conv_in.bias")
        assert "left out: unet.conv_out" in str(proof)
        told = json.loads((tmp_path / form / "lorakit.json").read_text())
        assert told["adapter"]["converted"]["dropped"] == list(proof.dropped)


@pytest.mark.parametrize(
    ("state", "to", "message"),
    [
        (text_adapter(), "kohya", "in no part of an image pipeline"),
        (gpt2_adapter(), "kohya", "in no part of an image pipeline"),
        (gpt2_adapter(), "diffusers", "in no part of an image pipeline"),
        (image_adapter(), "loralib", "readers know one alpha"),
        (image_adapter(), "koya", "Did you mean 'kohya'"),
    ],
)
def test_what_cannot_be_converted(state, to, message, tmp_path):
    source = write(state, tmp_path / "a", "peft")
    with pytest.raises((UnsupportedError, SaveError), match=message):
        lk.convert(source, tmp_path / "b", to=to, drop=True)
    assert not (tmp_path / "b").exists()


def kohya_file(folder, tensors: dict[str, torch.Tensor]):
    folder.mkdir(exist_ok=True)
    file = folder / "style.safetensors"
    safetensors.torch.save_file(tensors, file)
    return file


def test_kohya_without_alpha_has_scale_one(tmp_path):
    key = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
    down, up = torch.randn(4, 8), torch.randn(6, 4)
    file = kohya_file(tmp_path, {f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up})
    ((path, delta),) = deltas(file).items()
    assert path == f"{UNET}.attn2.to_k"
    torch.testing.assert_close(delta, up.double() @ down.double())


def test_a_file_for_a_pipeline_goes_onto_its_parts(tmp_path):
    class Block(nn.Module):
        def __init__(self, *names):
            super().__init__()
            for name in names:
                self.add_module(name, nn.Linear(8, 8))

    def clip(level: bool):
        inner = nn.ModuleDict({"encoder": nn.ModuleDict({"layers": nn.ModuleList([
            nn.ModuleDict({"self_attn": Block("q_proj", "k_proj")})])})})  # fmt: skip
        return nn.ModuleDict({"text_model": inner}) if level else inner

    def unet():
        return nn.ModuleDict({"mid_block": Block("to_q", "to_k")})

    tensors = {}
    for key in ("lora_unet_mid_block_to_q", "lora_te_text_model_encoder_layers_0_self_attn_q_proj"):
        tensors[f"{key}.lora_down.weight"] = torch.randn(2, 8)
        tensors[f"{key}.lora_up.weight"] = torch.randn(8, 2)
        tensors[f"{key}.alpha"] = torch.tensor(1.0)
    file = kohya_file(tmp_path, tensors)
    for level in (False, True):  # transformers before and since 5
        both = nn.ModuleDict({"unet": unet(), "text_encoder": clip(level)})
        assert lk.load(both, file).sites == 2
        one = clip(level)
        with pytest.raises(AdapterFileError, match="Choose with component"):
            lk.load(one, file)
        assert lk.load(one, file, component="text_encoder").sites == 1
    assert lk.load(unet(), file, component="unet").sites == 1


@pytest.mark.parametrize(
    "path",
    [
        "down_blocks.0.attentions.1.transformer_blocks.0.attn2.to_out.0",
        "up_blocks.3.resnets.2.conv_shortcut", "mid_block.attentions.0.proj_in",
        "down_blocks.0.downsamplers.0.conv", "down_blocks.0.resnets.0.time_emb_proj",
        "input_blocks.4.1.transformer_blocks.0.ff.net.0.proj", "double_blocks.18.img_attn.qkv",
        "single_blocks.37.modulation.lin", "single_transformer_blocks.3.attn.to_q",
        "transformer_blocks.0.attn.add_q_proj", "text_model.encoder.layers.11.self_attn.out_proj",
        "text_model.encoder.layers.0.mlp.fc1", "encoder.block.0.layer.1.DenseReluDense.wi_0",
    ],
)  # fmt: skip
def test_flat_names_lead_back(path):
    assert unflatten(flatten(path), None) == path
    assert unflatten(flatten(path), [path, "other"]) == path


def test_a_flat_name_that_means_two_paths_means_none():
    assert unflatten("a_b", ["a.b", "a_b"]) is None
    assert unflatten("some_thing_new", None) is None


@settings(max_examples=60, deadline=None)
@given(
    ranks=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    alphas=st.lists(st.floats(0.01, 100), min_size=4, max_size=4),
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16, torch.float64]),
    rslora=st.booleans(),
)
def test_any_adapter_survives_every_pair(ranks, alphas, shape, dtype, rslora):
    generator = torch.Generator().manual_seed(0)
    low = {}
    for place, rank in enumerate(ranks):
        A = torch.randn(rank, shape[0], generator=generator).to(dtype)
        B = torch.randn(shape[1], rank, generator=generator).to(dtype)
        low[f"unet.mid_block.attentions.{place}.to_q"] = LowRankState("linear", A, B, alphas[place])
    state = AdapterState(low, rslora=rslora)
    by_base = ("gguf", "torchtune", "litgpt")  # of text models alone: tested with these
    apart = ("loralib", "cloneofsimo", "own", "vera", *by_base)
    for form in (form for form in FORMATS if form.name not in apart):
        files = form.save(state, None, Options())
        if form.name in ("peft", "vllm"):
            content = Content("here", files)
        else:
            data = next(iter(files.values()))
            from lorakit.formats.tensors import read_metadata, read_tensors

            content = Content("here", {}, read_tensors(data, "here"), read_metadata(data))
        assert next(f for f in FORMATS if f.matches(content)).name == form.name.replace(
            "vllm", "peft"
        )
        again = form.load(content, None, Options())
        assert again.low_rank.keys() == low.keys()
        for path, own in low.items():
            scales = state.scale(own), again.scale(again.low_rank[path])
            # Rounding is of the factors' size, which may be far above that of their product.
            size = float(own.A.double().norm() * own.B.double().norm())
            product = float((own.B.double() @ own.A.double()).norm())
            error = relative_error(own, again.low_rank[path], scales)
            assert error * product <= 1e-6 * size


def test_the_error_of_a_change_is_that_of_the_dense_product():
    torch.manual_seed(0)
    one = LowRankState("linear", torch.randn(3, 8), torch.randn(9, 3), 1.0)
    two = LowRankState("linear", torch.randn(2, 8), torch.randn(9, 2), 1.0)
    before, after = 0.5 * one.B @ one.A, 2.0 * two.B @ two.A
    expected = float((after - before).norm() / before.norm())
    assert relative_error(one, two, (0.5, 2.0)) == pytest.approx(expected, rel=1e-5)
    assert relative_error(one, one, (0.5, 0.5)) < 1e-14


class Evil:
    def __reduce__(self):
        return (print, ("this must never run",))


def saved(value) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def bomb() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", b"\0" * 10**7)
    return file.getvalue()


def program(code: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x/data.pkl", code)
    return file.getvalue()


def deep_keys() -> bytes:
    """A dictionary whose key takes longer to hash than anyone lives."""
    doubled = b"".join(b"h\x00h\x00\x86q\x00" for _ in range(60))
    return program(b"\x80\x02)q\x00" + doubled + b"}h\x00K\x01s.")


PICKLES = {
    "code": (saved(Evil()), "more than tensors"),
    "code beside tensors": (saved({"a": torch.ones(2), "b": Evil()}), "more than tensors"),
    "a plain pickle": (pickle.dumps({"a": 1}), "no file of torch.save"),
    "nothing": (b"", "no file of torch.save"),
    "cut off": (saved({"a": torch.ones(100)})[:-50], "no file of torch.save"),
    "a bomb": (bomb(), "more than it is"),
    "memory": (program(b"\x80\x02c__builtin__\nbytearray\nJ\x00\x00\x00\x70\x85R."), "bytearray"),
    "deep keys": (deep_keys(), "key of type tuple"),
    "no end": (program(b"\x80\x02}"), "damaged"),
    "no program": (program(b""), "damaged"),
    "an empty stack": (program(b"\x80\x020."), "more than tensors|damaged"),
    "a number": (saved(7), "holds a int"),
    "a number beside tensors": (saved({"a": torch.ones(2), "b": 7}), "more than tensors"),
    "a huge view": (saved({"a": torch.ones(1).expand(10**6, 10**6)}), "more values than"),
    "sparse": (saved({"a": torch.eye(3).to_sparse()}), "more than tensors"),
    "on no device": (saved({"a": torch.ones(2, device="meta")}), "more than tensors"),
    "keys that are numbers": (saved({1: torch.ones(2)}), "key of type int"),
}


@pytest.mark.parametrize(("data", "message"), PICKLES.values(), ids=PICKLES.keys())
def test_a_pickle_gives_tensors_or_an_error(data, message, capsys):
    with pytest.raises(AdapterFileError, match=message):
        read_pickle(data, "old.pt")
    assert "never run" not in capsys.readouterr().out


def test_a_pickle_is_read_by_convert_alone(tmp_path):
    (tmp_path / "a").mkdir()
    file = tmp_path / "a" / "lora.pt"
    file.write_bytes(
        saved({"state_dict": {"x.lora_A": torch.ones(2, 3), "x.lora_B": torch.ones(4, 2)}})
    )
    model = nn.ModuleDict({"x": nn.Linear(3, 4)})
    with pytest.raises(AdapterFileError, match="lorakit convert"):
        lk.load(model, file)
    lk.convert(file, tmp_path / "b", alpha=2)
    lk.load(model, tmp_path / "b")


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.pop("K.lora_up.weight"),
        lambda t: t.update({"K.lora_up.weight": torch.ones(6, 3)}),
        lambda t: t.update({"K.alpha": torch.ones(2)}),
        lambda t: t.update({"K.alpha": torch.tensor(0.0)}),
        lambda t: t.update({"lora_unet_x.hada_w1_a": torch.ones(2, 2)}),
        lambda t: t.update({"K.dora_scale": torch.ones(1, 8)}),
        lambda t: t.update({"stray": torch.ones(1)}),
        lambda t: t.update({"K.lora_down.weight": torch.full((4, 8), torch.nan)}),
        lambda t: t.update({"lora_unet_what_ever.lora_down.weight": torch.ones(4, 8),
                            "lora_unet_what_ever.lora_up.weight": torch.ones(8, 4)}),
    ],
)  # fmt: skip
def test_a_damaged_kohya_file_is_an_error(change, tmp_path):
    tensors = {
        "K.lora_down.weight": torch.ones(4, 8), "K.lora_up.weight": torch.ones(6, 4),
        "K.alpha": torch.tensor(2.0),
    }  # fmt: skip
    change(tensors)
    key = "lora_unet_mid_block_attentions_0_proj_in"
    file = kohya_file(tmp_path, {k.replace("K.", f"{key}."): v for k, v in tensors.items()})
    with pytest.raises(LorakitError):
        read_adapter(file)


@pytest.mark.parametrize("rslora", [False, True])
def test_vllm_gets_one_rank_and_no_scale(rslora, tmp_path):
    torch.manual_seed(0)
    low = {
        f"model.layers.{n}.self_attn.q_proj": LowRankState(
            "linear", torch.randn(rank, 8), torch.randn(6, rank), float(2 + n)
        )
        for n, rank in enumerate((3, 12))
    }
    source = write(AdapterState(low, rslora=rslora), tmp_path / "a", "peft")
    proof = lk.convert(source, tmp_path / "b", to="vllm")
    assert proof.largest < 1e-6
    config = json.loads((tmp_path / "b" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["use_rslora"]) == (16, 16, False)
    assert config["rank_pattern"] == config["alpha_pattern"] == {}
    before, after = deltas(source), deltas(tmp_path / "b")
    for path, delta in before.items():
        torch.testing.assert_close(after[path], delta)
    image = write(image_adapter(dora=True), tmp_path / "c", "peft")
    with pytest.raises(UnsupportedError, match="a DoRA; it changes convolutions"):
        lk.convert(image, tmp_path / "d", to="vllm")


@pytest.mark.parametrize("form", ["kohya", "diffusers"])
def test_saving_in_another_format_loses_nothing_in_silence(form, tmp_path):
    def model():
        torch.manual_seed(0)
        block = nn.ModuleDict({"to_q": nn.Linear(8, 8), "norm": nn.LayerNorm(8)})
        return nn.ModuleDict({"mid_block": block, "conv_in": nn.Embedding(8, 8)})

    for targets, method in (
        ({"mid_block.to_q": 2}, lk.LoRA(bias="lora_only")),
        ({"mid_block.norm": 1}, None),
        ({"mid_block.to_q": 2}, lk.LoRA(extras=("mid_block.norm",))),
        ({"conv_in": 2}, None),
    ):
        adapted = model()
        lk.inject(adapted, targets, method=method)
        with pytest.raises(UnsupportedError):
            lk.save(adapted, tmp_path / "x", format=form)
        assert not (tmp_path / "x").exists()

    adapted = model()
    lk.inject(adapted, {"mid_block.to_q": 2}, method=lk.LoRAFA())
    lk.save(adapted, tmp_path / "good", format=form)
    lk.save(adapted, tmp_path / "good", format=form)  # an adapter is replaced, whatever its format
    lk.load(model(), tmp_path / "good")
    torch.manual_seed(1)
    other = nn.ModuleDict({"mid_block": nn.ModuleDict({"to_q": nn.Linear(8, 8)})})
    with pytest.raises(LorakitError, match="another base"):
        lk.load(other, tmp_path / "good")
    file = next((tmp_path / "good").glob("*.safetensors"))
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(AdapterFileError, match="damaged or was"):
        lk.load(model(), tmp_path / "good")


def test_two_forms_of_one_module_are_an_error(tmp_path):
    pair = {"lora_down.weight": torch.ones(2, 8), "lora_up.weight": torch.ones(8, 2)}
    twice = {
        f"{prefix}text_model_encoder_layers_0_mlp_fc1.{end}": value.clone()
        for prefix in ("lora_te_", "lora_te1_")
        for end, value in pair.items()
    }
    with pytest.raises(AdapterFileError, match="would be lost"):
        read_adapter(kohya_file(tmp_path, twice))
    for first, second in (("lora_A", "lora.down"), ("lora_A", "lora_A")):
        there = "unet." if first == second else ""
        tensors = {f"{there}mid_block.to_q.{first}.weight": torch.ones(2, 8)}
        tensors[f"{there}mid_block.to_q.lora_B.weight"] = torch.ones(8, 2)
        tensors[f"mid_block.to_q.{second}.weight"] = torch.ones(2, 8)
        tensors["mid_block.to_q.lora.up.weight"] = torch.ones(8, 2)
        with pytest.raises(AdapterFileError, match="would be lost"):
            read_adapter(kohya_file(tmp_path, tensors))


def diffusers_file(folder, metadata: dict, *, drop: str = "", alpha: float | None = None):
    tensors = {}
    for path in ("unet.mid_block.to_q", "unet.mid_block.to_k", "text_encoder.text_model.x.fc1"):
        if path != drop:
            tensors[f"{path}.lora_A.weight"] = torch.ones(4, 8)
            tensors[f"{path}.lora_B.weight"] = torch.ones(8, 4)
    if alpha is not None:
        tensors["unet.mid_block.to_q.alpha"] = torch.tensor(alpha)
    packed = {"lora_adapter_metadata": json.dumps(metadata)}
    safetensors.torch.save_file(tensors, folder / "x.safetensors", metadata=packed)
    return folder / "x.safetensors"


def test_the_metadata_of_one_part_are_those_of_that_part(tmp_path):
    told = {"unet.r": 4, "unet.lora_alpha": 4, "unet.use_rslora": True}
    state = read_adapter(diffusers_file(tmp_path, told))
    scales = {path: state.scale(low) for path, low in state.low_rank.items()}
    assert scales["unet.mid_block.to_q"] == 2
    assert scales["text_encoder.text_model.x.fc1"] == 1

    for metadata, options in (
        ({**told, "unet.use_dora": True}, {}),
        ({**told, "unet.lora_alpha": 8}, {"alpha": 64.0}),
        ({**told, "unet.r": 3}, {}),
        ({**told, "unet.layers_pattern": 5}, {}),
    ):
        with pytest.raises(AdapterFileError):
            read_adapter(diffusers_file(tmp_path, metadata, **options))
    torch.manual_seed(0)
    unet = nn.ModuleDict({
        "mid_block": nn.ModuleDict({"to_q": nn.Linear(8, 8), "to_k": nn.Linear(8, 8)})
    })  # fmt: skip
    told = {**told, "unet.target_modules": ["to_q", "to_k"]}
    lk.load(unet, diffusers_file(tmp_path, told), component="unet")
    lk.remove(unet, "default")
    file = diffusers_file(tmp_path, told, drop="unet.mid_block.to_k")
    with pytest.raises(AdapterFileError, match=r"no tensors for 'mid_block\.to_k'"):
        lk.load(unet, file, component="unet")


def test_loralib_oddities(tmp_path):
    torch.manual_seed(0)
    factors = {"x.lora_A": torch.randn(2, 3), "x.lora_B": torch.randn(4, 2)}
    (tmp_path / "a").mkdir()
    file = tmp_path / "a" / "lora.pt"
    file.write_bytes(saved({**factors, "x.weight": torch.randn(4, 3)}))
    with pytest.raises(UnsupportedError, match="would act twice"):
        lk.convert(file, tmp_path / "b", alpha=2)
    file.write_bytes(saved(factors))
    with pytest.raises(LorakitError, match="other than 0"):
        lk.convert(file, tmp_path / "b", alpha=0)
    with pytest.raises(AdapterFileError, match="which can tell"):
        lk.convert(file, tmp_path / "b", alpha=2, enabled=[False, False, True])
    fused = nn.ModuleDict({"x": nn.Linear(3, 12)})
    lk.convert(file, tmp_path / "b", alpha=2, enabled=[False, False, True], model=fused)
    ((_, delta),) = deltas(tmp_path / "b").items()
    expected = (factors["x.lora_B"] @ factors["x.lora_A"]).double()
    torch.testing.assert_close(delta[8:], expected, rtol=1e-5, atol=1e-6)
    assert not delta[:8].any()


def test_whole_numbers_for_alpha_are_read(tmp_path):
    key = "lora_unet_mid_block_attentions_0_proj_in"
    tensors = {
        f"{key}.lora_down.weight": torch.ones(4, 8), f"{key}.lora_up.weight": torch.ones(6, 4),
        f"{key}.alpha": torch.tensor(2),
    }  # fmt: skip
    state = read_adapter(kohya_file(tmp_path, tensors))
    assert [state.scale(low) for low in state.low_rank.values()] == [0.5]


def test_a_part_can_be_chosen_and_must_be_one(tmp_path):
    source = write(image_adapter(), tmp_path / "a", "kohya")
    proof = lk.convert(source, tmp_path / "b", component="text_encoder")
    assert all(path.startswith("text_encoder.") for path in proof.errors)
    assert len(proof.dropped) == 5
    with pytest.raises(LorakitError, match="Did you mean 'unet'"):
        lk.convert(source, tmp_path / "c", component="uent")
    with pytest.raises(LorakitError, match="has nothing for 'transformer'"):
        lk.convert(source, tmp_path / "c", component="transformer")


def test_the_first_text_encoder_of_two_keeps_its_prefix(tmp_path):
    key = "lora_te1_text_model_encoder_layers_0_mlp_fc1"
    tensors = {
        f"{key}.lora_down.weight": torch.ones(2, 8),
        f"{key}.lora_up.weight": torch.ones(8, 2),
    }
    file = tmp_path / "style.safetensors"
    facts = {"ss_base_model_version": "sdxl_base_v1-0"}
    safetensors.torch.save_file(tensors, file, metadata=facts)
    lk.convert(file, tmp_path / "b", to="kohya")
    assert all(key.startswith("lora_te1_") for key in safetensors.torch.load_file(
        tmp_path / "b" / "pytorch_lora_weights.safetensors"))  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(code=st.binary(max_size=60))
def test_no_program_does_more_than_fail(code):
    try:
        found = read_pickle(program(b"\x80\x02" + code), "x.pt")
    except AdapterFileError:
        return
    assert found == {}  # `}.` makes an empty dictionary, and nothing short makes a tensor


@settings(max_examples=300, deadline=None)
@given(place=st.integers(0, 10**6), byte=st.integers(0, 255))
def test_a_changed_byte_is_an_error_or_a_tensor(place, byte):
    data = bytearray(saved({"a": torch.arange(6.0).view(2, 3), "b": torch.ones(2).half()}))
    data[place % len(data)] = byte
    try:
        found = read_pickle(bytes(data), "x.pt")
    except AdapterFileError:
        return
    assert all(isinstance(value, torch.Tensor) for value in found.values())


def test_every_form_of_torch_save_is_read():
    values = torch.arange(12.0).view(3, 4)
    tensors = {
        "plain": values, "view": values[1:, ::2], "turned": values.T, "half": values.half(),
        "wide": values.double(), "brain": values.bfloat16(), "parameter": nn.Parameter(values),
        "number": torch.tensor(3.0), "none": torch.empty(0, 4),
    }  # fmt: skip
    for held in (tensors, {"state_dict": tensors}, nn.Linear(2, 3).state_dict()):
        found = read_pickle(saved(held), "x.pt")
        expected = held.get("state_dict", held)
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert torch.equal(found[key], value.detach())
            assert found[key].dtype == value.dtype
    assert list(read_pickle(saved([values, values]), "x.pt")) == ["0", "1"]
