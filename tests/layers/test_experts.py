"""Fused experts of transformers' mixtures."""

from __future__ import annotations

import json

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

import lorakit as lk
from families import EXPERTS, build, inputs, randomise
from lorakit.core.errors import LorakitError, PlanError, RoutingError, UnsupportedError
from test_laws import answer, using

EACH = pytest.mark.parametrize("family", EXPERTS)
pytestmark = pytest.mark.filterwarnings("ignore")  # PEFT warns of what it deprecates


def adapted(family="mixtral", targets=("experts", "q"), rank=3, seed=0, **options):
    model = build(family)
    torch.manual_seed(seed)
    lk.inject(model, lk.plan(model, list(targets), rank), method=lk.LoRA(alpha=6, **options))
    randomise(model, "default", seed=seed)
    return model


@EACH
@pytest.mark.parametrize("rslora", [False, True])
def test_peft_answers_the_same(family, rslora, tmp_path):
    down = "*experts:down_proj"
    model = adapted(family, rank={down: 5, "*": 3}, rslora=rslora)
    expected = answer(model)
    lk.save(model, tmp_path / "ours")
    theirs = peft.PeftModel.from_pretrained(build(family), tmp_path / "ours").eval()
    torch.testing.assert_close(answer(theirs.base_model.model), expected, rtol=1e-4, atol=1e-5)
    theirs.save_pretrained(tmp_path / "theirs")
    again = build(family)
    lk.load(again, tmp_path / "theirs")
    assert torch.equal(answer(again), expected)
    ours, written = (
        load_file(tmp_path / n / "adapter_model.safetensors") for n in ("ours", "theirs")
    )
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in written.items()}


def test_one_parameter_alone_and_peft(tmp_path):
    for target in ("experts:down_proj", "experts:gate_up_proj"):
        model = adapted(targets=[target])
        lk.save(model, tmp_path / target.replace(":", "_"))
        theirs = peft.PeftModel.from_pretrained(
            build("mixtral"), tmp_path / target.replace(":", "_")
        ).eval()
        torch.testing.assert_close(
            answer(theirs.base_model.model), answer(model), rtol=1e-4, atol=1e-5
        )


def test_each_expert_has_its_own_change():
    model = adapted(targets=["experts:down_proj"])
    layer = model.model.layers[1].mlp.experts
    update = layer.lora.a0["experts"].of["down_proj"]
    change = torch.einsum("eor,eri->eoi", update.B, update.A) * update.scale
    expected = build("mixtral")
    own = expected.model.layers[1].mlp.experts
    own.down_proj.data += change.detach()
    first = model.model.layers[0].mlp.experts.lora.a0["experts"].of["down_proj"]
    expected.model.layers[0].mlp.experts.down_proj.data += (
        first.B @ first.A * first.scale
    ).detach()
    torch.testing.assert_close(answer(model), answer(expected), rtol=1e-5, atol=1e-6)


def test_gradients_are_those_of_the_changed_weights():
    model = adapted(targets=["experts"])
    batch = inputs(model)
    model(**batch, labels=batch["input_ids"]).loss.backward()
    layer = model.model.layers[0].mlp.experts
    for name, update in layer.lora.a0["experts"].of.items():
        with lk.merged(model):
            model.zero_grad()
            weight = layer._parameters[name]
            weight.requires_grad_(True)
            model(**batch, labels=batch["input_ids"]).loss.backward()
            dense = weight.grad
        model.zero_grad()
        model(**batch, labels=batch["input_ids"]).loss.backward()
        expected = update.scale * dense @ update.A.detach().mT
        torch.testing.assert_close(update.B.grad, expected, rtol=1e-3, atol=1e-6)


def test_they_are_combined_cut_compared_and_inspected(tmp_path):
    folders = []
    for seed in (0, 1):
        folders.append(tmp_path / str(seed))
        lk.save(adapted(seed=seed, rank=2 + seed), folders[-1])
    lk.combine(folders, weights=[0.7, -0.4], out=tmp_path / "sum")
    lk.resize(tmp_path / "sum", rank=5, out=tmp_path / "same")
    small = lk.resize(tmp_path / "sum", rank=2, out=tmp_path / "small")
    assert lk.diff(folders[0], folders[0]).same
    pairs = {pair.path: pair for pair in lk.diff(tmp_path / "sum", tmp_path / "same").shared}
    assert all(pair.distance < 1e-5 for pair in pairs.values())
    assert any(path.endswith("experts:down_proj") for path in pairs)
    assert 0 < small.largest < 1
    deltas = []
    for folder in (*folders, tmp_path / "sum", tmp_path / "small"):
        model = build("mixtral")
        lk.load(model, folder)
        own = model.model.layers[0].mlp.experts
        base = own.gate_up_proj.detach().clone()
        with lk.merged(model):
            deltas.append((own.gate_up_proj - base).detach())
    torch.testing.assert_close(deltas[2], 0.7 * deltas[0] - 0.4 * deltas[1], rtol=1e-4, atol=1e-6)
    for cut, whole in zip(deltas[3], deltas[2]):  # the best of its rank for every expert
        tail = torch.linalg.svdvals(whole)[2:].norm()
        torch.testing.assert_close((whole - cut).norm(), tail, rtol=1e-3, atol=1e-5)
    norms = {layer.path: layer.norm for layer in lk.inspect(folders[0]).layers}
    assert norms["model.layers.0.mlp.experts:gate_up_proj"] == pytest.approx(
        float(deltas[0].norm()), rel=1e-4
    )


def test_what_they_cannot_do_is_refused(tmp_path):
    model = build("mixtral")
    plan = lk.plan(model, "experts", 2)
    path = "model.layers.0.mlp.experts"
    with pytest.raises(PlanError, match="experts:gate_up_proj"):
        lk.plan(model, path, 2)
    with pytest.raises(PlanError, match="experts:gate_up_proj"):
        lk.inject(model, {path: 2})
    with pytest.raises(PlanError, match="experts:gate_up_proj"):
        lk.inject(model, {f"{path}:gate": 2})
    for method in (lk.DoRA(), lk.VeRA(), lk.LoRA(dropout=0.1), lk.LoRA(init="pissa")):
        with pytest.raises(UnsupportedError):
            lk.inject(model, plan, method=method)
    assert lk.adapters(model) == ()
    for name in ("one", "two"):
        lk.inject(model, plan, name=name)
    with pytest.raises(RoutingError, match="cannot act together"):
        lk.activate(model, "one", "two")
    lk.save(model, tmp_path / "a", name="one")
    for form in ("kohya", "diffusers", "loralib", "vllm"):
        with pytest.raises(UnsupportedError, match="experts"):
            lk.convert(tmp_path / "a", tmp_path / "b", to=form)


def test_experts_that_get_sorted_tokens_do_not_mix_rows():
    model = adapted("llama4")
    lk.activate(model)
    with (
        pytest.raises(UnsupportedError, match="sorted by expert"),
        lk.use(model, per_sample=["default", None]),
    ):
        answer(model)
    assert torch.isfinite(using(model, "default")).all()


def test_damaged_folders_are_refused(tmp_path):
    lk.save(adapted(), tmp_path / "a")
    (tmp_path / "a" / "lorakit.json").unlink()
    file, told = (
        tmp_path / "a" / "adapter_model.safetensors",
        tmp_path / "a" / "adapter_config.json",
    )
    good, config = load_file(file), json.loads(told.read_text())
    outer = "base_model.model.model.layers.0.mlp.experts.lora_A.weight"
    inner = "base_model.model.model.layers.0.mlp.experts.base_layer.lora_B.weight"
    module = "base_model.model.model.layers.0.mlp.experts."
    whole = {k: v for k, v in good.items() if not k.startswith(module)}
    cases = {
        "no outer A": ({k: v for k, v in good.items() if k != outer}, config),
        "no inner B": ({k: v for k, v in good.items() if k != inner}, config),
        "no experts of a layer": (whole, config),
        "one row less": ({**good, outer: good[outer][:-1].contiguous()}, config),
        "an expert less": ({**good, outer: good[outer][:-3].contiguous()}, config),
        "another shape": ({**good, inner: good[inner].T.contiguous()}, config),
        "one parameter targeted": (good, {**config, "target_parameters": ["experts.down_proj"]}),
        "an unknown parameter": (good, {**config, "target_parameters": ["experts.up_proj"]}),
        "targets that are no list": (good, {**config, "target_parameters": "experts"}),
        "another rank": (good, {**config, "r": 4}),
    }
    model = build("mixtral")
    for what, (tensors, written) in cases.items():
        save_file(tensors, file)
        told.write_text(json.dumps(written))
        with pytest.raises(LorakitError) as caught:
            lk.load(model, tmp_path / "a")
        assert len(str(caught.value)) > 40, what
    assert lk.adapters(model) == ()


class Three(torch.nn.Module):
    """What some modules of transformers look like: gate, up and down apart."""

    __module__ = "transformers.models.tiny.modeling_tiny"

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.gate_proj = torch.nn.Parameter(torch.randn(3, 6, 4))
        self.up_proj = torch.nn.Parameter(torch.randn(3, 6, 4))
        self.odd_proj = torch.nn.Parameter(torch.randn(3, 6, 4))

    def forward(self, x, indices):
        each = [x @ w[indices[0]].T for w in (self.gate_proj, self.up_proj, self.odd_proj)]
        return each[0] * each[1] + each[2]


Three.__qualname__ = Three.__name__ = "ThreeExperts"


@pytest.mark.parametrize("names", [("gate_proj", "up_proj"), ("gate_proj", "up_proj", "odd_proj")])
def test_parameters_of_one_shape_are_not_exchanged(names, tmp_path):
    def made():
        return torch.nn.ModuleDict({"experts": Three()})

    model, x = made(), (torch.randn(2, 4), torch.tensor([1, 1]))
    lk.inject(model, {f"experts:{name}": 2 for name in reversed(names)})
    randomise(model, "default")
    lk.save(model, tmp_path / "a")
    again = made()
    lk.load(again, tmp_path / "a")
    assert torch.equal(again["experts"](*x), model["experts"](*x))
    if "odd_proj" in names:
        with pytest.raises(LorakitError, match="only the base can tell"):
            lk.inspect(tmp_path / "a")


def test_experts_that_peft_cannot_tell_apart_are_refused(tmp_path):
    model = torch.nn.ModuleDict(
        {"experts": Three(), "sub": torch.nn.ModuleDict({"experts": Three()})}
    )
    lk.inject(model, {"experts:gate_proj": 2})
    with pytest.raises(UnsupportedError, match="by the end of their path"):
        lk.save(model, tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_keys_of_others_are_not_taken_for_factors(tmp_path):
    lk.save(adapted(), tmp_path / "a")
    (tmp_path / "a" / "lorakit.json").unlink()
    file = tmp_path / "a" / "adapter_model.safetensors"
    tensors = load_file(file)
    key = "base_model.model.model.layers.0.mlp.experts.lora_A.weight"
    tensors[key.removeprefix("base_model.model.")] = tensors[key] + 9
    save_file(tensors, file)
    with pytest.raises(LorakitError, match="expected keys that begin with"):
        lk.load(build("mixtral"), tmp_path / "a")
