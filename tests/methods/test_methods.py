"""The methods beside LoRA: their formulas, PEFT's results, and what they refuse."""

from __future__ import annotations

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import lorakit as lk
from families import build, inputs, randomise
from lorakit.core.errors import PlanError, UnsupportedError

pytestmark = pytest.mark.filterwarnings("ignore")  # PEFT warns where it corrects itself


class Net(nn.Module):
    """A layer of every kind that DoRA knows in PEFT, too."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(11, 8)
        self.conv = nn.Conv1d(8, 6, 3, padding=1)
        self.lin = nn.Linear(6, 5)

    def forward(self, ids):
        h = self.conv(self.table(ids).mT)
        return self.lin(h.mT.relu())


IDS = torch.arange(9).view(3, 3)
LAYERS = ["table", "conv", "lin"]


def test_dora_is_the_formula_of_its_paper():
    torch.manual_seed(0)
    layer, x = nn.Linear(6, 5), torch.randn(4, 6)
    model = nn.Sequential(layer)
    lk.inject(model, {"0": 2}, method=lk.DoRA(alpha=3))
    update = layer.lora.a0.low_rank
    torch.testing.assert_close(update.magnitude, layer.weight.norm(dim=1))
    randomise(model, "default", scale=0.5)
    moved = layer.weight + 1.5 * (update.B @ update.A)
    weight = update.magnitude[:, None] * moved / moved.norm(dim=1, keepdim=True)
    torch.testing.assert_close(model(x), x @ weight.T + layer.bias)


def test_dora_drops_what_goes_through_the_layer():
    torch.manual_seed(0)
    layer, x = nn.Linear(6, 5), torch.ones(4, 6)
    model = nn.Sequential(layer)
    lk.inject(model, {"0": 2}, method=lk.DoRA(alpha=3, dropout=0.9))
    base = layer(x).detach()
    with lk.use(model):
        plain = layer(x)
    assert torch.allclose(base, plain)  # at the start the ratio is 1 and B is 0
    randomise(model, "default", scale=0.5)
    assert not torch.allclose(layer(x), layer(x))
    model.eval()
    assert torch.equal(layer(x), layer(x))


@pytest.mark.parametrize("targets", [*([name] for name in LAYERS), LAYERS])
@pytest.mark.parametrize("rslora", [False, True])
def test_dora_goes_to_peft_and_back(targets, rslora, tmp_path):
    model = Net().eval()
    method = lk.DoRA(alpha=6, rslora=rslora)
    lk.inject(model, lk.plan(model, targets, 3), method=method)
    randomise(model, "default", scale=0.3)
    expected = model(IDS)
    lk.save(model, tmp_path / "ours")
    theirs = peft.PeftModel.from_pretrained(Net(), tmp_path / "ours").eval()
    torch.testing.assert_close(theirs(IDS), expected)
    theirs.save_pretrained(tmp_path / "theirs")
    again = Net().eval()
    lk.load(again, tmp_path / "theirs")
    assert torch.equal(again(IDS), expected)
    assert lk.inspect(again)[0].method == "dora"


@pytest.mark.parametrize("init", ["pissa", "olora"])
def test_an_anchored_start_trains_as_peft_does_on_its_changed_base(init, tmp_path):
    ours, theirs = build("llama"), build("llama")
    lk.inject(ours, lk.plan(ours, ["q", "v"], 4), method=lk.LoRA(alpha=8, init=init))
    config = peft.LoraConfig(
        r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], init_lora_weights=init
    )
    theirs = peft.get_peft_model(theirs, config)
    batch = inputs(ours, rows=4)
    losses = []
    for model in (ours, theirs):
        torch.manual_seed(0)
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.5)
        seen = []
        for _ in range(8):
            loss = model(**batch, labels=batch["input_ids"]).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            seen.append(loss.item())
        losses.append(seen)
    assert losses[0][-1] < losses[0][0] - 0.01
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)

    # What is saved belongs on the untouched base, in any tool.
    expected = ours(**batch).logits
    lk.save(ours, tmp_path / "ours")
    plain = peft.PeftModel.from_pretrained(build("llama"), tmp_path / "ours").eval()
    torch.testing.assert_close(plain(**batch).logits, expected, rtol=1e-4, atol=1e-5)
    assert plain.peft_config["default"].r == 8


@pytest.mark.parametrize("init", ["pissa", "olora"])
def test_a_run_goes_on_from_an_anchored_file(init, tmp_path):
    model = build("gpt_neox")
    plan = lk.plan(model, ["q", "v", "down"], {"q": 2, "v": 4, "*": 3})
    lk.inject(model, plan, method=lk.LoRA(alpha=8, init=init))
    randomise(model, "default")
    lk.save(model, tmp_path / "a")
    again = build("gpt_neox")
    lk.load(again, tmp_path / "a", trainable=True)
    pairs = zip(model.named_buffers(), again.named_buffers(), strict=True)
    assert all(torch.equal(one[1], two[1]) for one, two in pairs)
    assert {layer.path: layer.rank for layer in lk.inspect(again)[0].layers} == plan


def test_principal_values_are_the_best_approximation_of_their_rank():
    torch.manual_seed(0)
    layer = nn.Linear(6, 5)
    lk.inject(nn.Sequential(layer), {"0": 2}, method=lk.LoRA(alpha=-3, init="pissa"))
    update = layer.lora.a0.low_rank
    values = torch.linalg.svdvals(layer.weight - update.scale * update.B @ update.A)
    torch.testing.assert_close(values[:3], torch.linalg.svdvals(layer.weight)[2:])


def test_lora_fa_trains_b_alone(tmp_path):
    model = build("llama")
    lk.inject(model, lk.plan(model, ["q", "embeddings"], 2), method=lk.LoRAFA())
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert all(name.endswith("B") for name in trained if "q_proj" in name)
    assert [name for name in trained if "embed" in name] == [
        "model.embed_tokens.lora.a0.low_rank.A"
    ]
    batch = inputs(model)
    model(**batch, labels=batch["input_ids"]).loss.backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    randomise(model, "default")
    lk.save(model, tmp_path / "a")
    again = build("llama")
    lk.load(again, tmp_path / "a", trainable=True)
    assert [name for name, p in again.named_parameters() if p.requires_grad] == trained


@pytest.mark.parametrize(
    ("method", "plan", "error", "message"),
    [
        (lk.DoRA(), {"transformer.h.0.attn.c_attn:q": 2}, UnsupportedError, "part of one"),
        (lk.LoRA(init="pissa"), {"transformer.h.0.attn.c_attn": 33}, PlanError, "at most 32"),
    ],
)
def test_what_methods_refuse(method, plan, error, message):
    model = build("gpt2")
    with pytest.raises(error, match=message):
        lk.inject(model, plan, method=method)
    assert not lk.adapters(model)


def test_an_initialiser_that_is_not_there_is_named():
    with pytest.raises(PlanError, match="Did you mean 'pissa'"):
        lk.LoRA(init="pisa")


def test_dora_beside_a_replaced_table_is_refused(tmp_path):
    model = build("llama")
    lk.inject(model, lk.plan(model, ["embeddings", "q"], 2), method=lk.DoRA())
    lk.save(model, tmp_path / "a")
    (tmp_path / "a" / "lorakit.json").unlink()
    file = tmp_path / "a" / "adapter_model.safetensors"
    tensors = load_file(file)
    table = model.model.embed_tokens.weight.detach() * 2
    tensors["base_model.model.model.embed_tokens.base_layer.weight"] = table
    save_file(tensors, file)
    other = build("llama")
    with pytest.raises(UnsupportedError, match="replaced in full"):
        lk.load(other, tmp_path / "a")
    assert not lk.adapters(other)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_fresh_narrow_dora_changes_nothing(dtype):
    model = build("llama")
    expected = model(**inputs(model)).logits
    lk.inject(model, lk.plan(model, "all-linear", 2), method=lk.DoRA(dtype=dtype))
    assert torch.equal(model(**inputs(model)).logits, expected)


def test_dora_under_autocast_has_the_norm_of_full_precision():
    torch.manual_seed(0)
    layer = nn.Linear(64, 64)
    lk.inject(nn.Sequential(layer), {"0": 4}, method=lk.DoRA(init="pissa"))
    randomise_update = layer.lora.a0.low_rank
    randomise_update.B.data += 0.1
    expected = randomise_update.norm(layer)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(randomise_update.norm(layer), expected)


def test_a_narrow_adapter_merges_as_it_acts():
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(32, 32)), torch.randn(8, 32)
    lk.inject(model, {"0": 8}, method=lk.LoRA(dtype=torch.bfloat16))
    randomise(model, "default", scale=0.3)
    expected = model(x)
    with lk.merged(model):
        torch.testing.assert_close(model(x), expected, rtol=1e-5, atol=1e-5)


def test_a_second_optimiser_has_the_same_rates(tmp_path):
    from transformers import TrainingArguments

    from lorakit.train import AdapterTrainer

    model = build("llama")
    lk.inject(model, lk.plan(model, ["q"], 2))
    args = TrainingArguments(output_dir=str(tmp_path), learning_rate=1e-3, report_to=[])
    trainer = AdapterTrainer(model, args, lora_plus=8)
    for _ in range(3):
        rates = sorted(group["lr"] for group in trainer.create_optimizer().param_groups)
    assert rates[-1] == 8e-3
