"""PEFT folders in both directions: what PEFT writes loads as it is, and PEFT loads ours."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass, field

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import lorakit as lk
from families import SEQ2SEQ, build, inputs, randomise
from lorakit.core.strength import set_strength
from test_laws import bits

peft = pytest.importorskip("peft")
pytestmark = pytest.mark.filterwarnings("ignore")  # PEFT warns where it corrects itself


@dataclass(frozen=True)
class Genuine:
    """A configuration with which people make adapters."""

    family: str
    options: dict = field(default_factory=dict)
    head: str = "lm"
    dtype: torch.dtype = torch.float32


GENUINE = {
    "llama, q and v": Genuine("llama", {"target_modules": ["q_proj", "v_proj"]}),
    "llama, all linear": Genuine("llama", {"target_modules": "all-linear"}),
    "llama, expression": Genuine("llama", {"target_modules": r".*\.(q|v)_proj"}),
    "llama, expression of layers": Genuine(
        "llama", {"target_modules": r"model\.layers\.[1-9]\d*\.(self_attn\.[qkvo]|mlp\.up)_proj"}
    ),
    "llama, one layer": Genuine(
        "llama", {"target_modules": ["q_proj"], "layers_to_transform": [1]}
    ),
    "llama, one layer by pattern": Genuine(
        "llama",
        {"target_modules": ["q_proj"], "layers_to_transform": 1, "layers_pattern": "layers"},
    ),
    "llama, without some": Genuine(
        "llama", {"target_modules": ["q_proj", "up_proj"], "exclude_modules": r".*\.0\.mlp.*"}
    ),
    "llama, full path": Genuine("llama", {"target_modules": ["model.layers.0.mlp.down_proj"]}),
    "llama, rank and alpha patterns": Genuine(
        "llama",
        {
            "target_modules": ["q_proj", "k_proj", "down_proj"],
            "rank_pattern": {"down_proj": 2, r"layers\.1.*\.q_proj": 6},
            "alpha_pattern": {"^model.layers.0.mlp.down_proj": 5, "k_proj": 3},
        },
    ),
    "llama, rsLoRA": Genuine("llama", {"target_modules": ["q_proj"], "use_rslora": True}),
    "llama, embeddings": Genuine("llama", {"target_modules": ["embed_tokens"]}),
    "llama, head": Genuine("llama", {"target_modules": ["lm_head", "q_proj"]}),
    "llama tied, head and embeddings": Genuine(
        "llama-tied", {"target_modules": ["embed_tokens", "lm_head"]}
    ),
    "llama, trained head and norm": Genuine(
        "llama", {"target_modules": ["q_proj"], "modules_to_save": ["lm_head", "norm"]}
    ),
    "llama, gaussian start": Genuine(
        "llama", {"target_modules": ["v_proj"], "init_lora_weights": "gaussian"}
    ),
    "llama, bfloat16": Genuine(
        "llama", {"target_modules": "all-linear"}, dtype=torch.bfloat16
    ),
    "llama, classes": Genuine(
        "llama", {"target_modules": ["q_proj"], "task_type": "SEQ_CLS"}, head="classes"
    ),
    "gpt2, fused": Genuine("gpt2", {"target_modules": ["c_attn"]}),
    "gpt2, fan_in_fan_out said": Genuine(
        "gpt2", {"target_modules": ["c_attn", "c_proj"], "fan_in_fan_out": True}
    ),
    "gpt2, all linear with embeddings": Genuine("gpt2", {"target_modules": ["wte", "mlp.c_fc"]}),
    "gpt2, biases": Genuine("gpt2", {"target_modules": ["c_attn"], "bias": "lora_only"}),
    "gpt2, much at once": Genuine(
        "gpt2",
        {
            "target_modules": ["c_attn", "mlp.c_proj"], "use_rslora": True,
            "rank_pattern": {"c_attn": 2}, "alpha_pattern": {"mlp.c_proj": 16},
            "modules_to_save": ["ln_f", "lm_head"], "lora_dropout": 0.1,
        },
    ),
    "bert, classes": Genuine(
        "bert", {"target_modules": ["query", "value"], "task_type": "SEQ_CLS"}, head="classes"
    ),
    "bert, all biases": Genuine("bert", {"target_modules": ["query"], "bias": "all"}),
    "bert, biases of layers": Genuine("bert", {"target_modules": ["query"], "bias": "lora_only"}),
    "bert, embeddings": Genuine("bert", {"target_modules": ["word_embeddings"]}),
    "roberta, all linear and a head of two layers": Genuine(
        "roberta", {"target_modules": "all-linear", "task_type": "SEQ_CLS"}, head="classes"
    ),
    "distilbert, a head that matches twice": Genuine(
        "distilbert", {"target_modules": ["q_lin"], "task_type": "SEQ_CLS"}, head="classes"
    ),
    "t5, q and v": Genuine("t5", {"target_modules": ["q", "v"], "task_type": "SEQ_2_SEQ_LM"}),
    "t5, all linear": Genuine("t5-gated", {"target_modules": "all-linear"}),
    "bart, scaled embeddings": Genuine("bart", {"target_modules": ["embed_tokens", "q_proj"]}),
    "gemma, scaled embeddings": Genuine("gemma", {"target_modules": ["embed_tokens", "o_proj"]}),
    "phi3, fused": Genuine("phi3", {"target_modules": ["qkv_proj", "gate_up_proj"]}),
}  # fmt: skip


def batch(model, family: str, head: str) -> dict:
    values = inputs(model)
    if head == "classes" and family in SEQ2SEQ:
        values.pop("decoder_input_ids")
    return values


def written_by_peft(case: Genuine, folder) -> torch.Tensor:
    """Let PEFT write an adapter with values of its own, and say what the model answers with it."""
    model = build(case.family, head=case.head, dtype=case.dtype)
    wrapped = peft.get_peft_model(
        model, peft.LoraConfig(**{"r": 4, "lora_alpha": 7, **case.options})
    )
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in wrapped.parameters():
            if parameter.requires_grad:
                noise = torch.randn(parameter.shape, generator=generator) * 0.1
                parameter.add_(noise.to(parameter.dtype))
    wrapped.eval()
    wrapped.save_pretrained(folder)
    with torch.no_grad():
        return wrapped(**batch(model, case.family, case.head)).logits


def rounding(case: Genuine, logits: torch.Tensor) -> float:
    # PEFT computes its branch in float32 and rounds the sum; ours is in the dtype of the base.
    return 16 * torch.finfo(case.dtype).eps * float(logits.abs().max())


def test_there_are_enough_genuine_folders():
    assert len(GENUINE) >= 20


@pytest.mark.parametrize("case", GENUINE.values(), ids=GENUINE.keys())
def test_genuine_folders_load_right_and_come_back(case, tmp_path):
    expected = written_by_peft(case, tmp_path / "theirs")
    model = build(case.family, head=case.head, dtype=case.dtype)
    values = batch(model, case.family, case.head)
    with torch.no_grad():
        base = model(**values).logits
        lk.load(model, tmp_path / "theirs", name="theirs")
        found = model(**values).logits
    assert (found - expected).abs().max() <= rounding(case, expected)
    assert (base - expected).abs().max() > rounding(case, expected), "the case is too weak"

    lk.save(model, tmp_path / "ours", name="theirs")
    theirs = load_file(tmp_path / "theirs" / "adapter_model.safetensors")
    ours = load_file(tmp_path / "ours" / "adapter_model.safetensors")
    for key, value in ours.items():
        assert torch.equal(value, theirs[key].float()), key
    again = peft.PeftModel.from_pretrained(
        build(case.family, head=case.head, dtype=case.dtype), str(tmp_path / "ours")
    ).eval()
    with torch.no_grad():
        back = again(**values).logits
    assert (back - expected).abs().max() <= rounding(case, expected)


OURS = {
    "rank and alpha by pattern": (
        "llama", {"*.layers.0.*": 2, "*": 4}, "all-linear",
        lk.LoRA(alpha={"q_proj": 3, "*": 8}), "lm",
    ),
    "rsLoRA": ("llama", 3, ["q", "v"], lk.LoRA(alpha=5, rslora=True), "lm"),
    "conv1d": ("gpt2", 3, "all-linear", lk.LoRA(alpha=8, bias="lora_only"), "lm"),
    "embedding and head": ("llama-tied", 3, ["embeddings", "head", "q"], lk.LoRA(), "lm"),
    "new head, all biases": (
        "bert", 3, "attention", lk.LoRA(bias="all", extras=("classifier",)), "classes",
    ),
    "encoder-decoder": ("t5", 3, ["q", "mlp"], lk.LoRA(), "lm"),
    "one layer of many": ("llama", 3, "model.layers.1.mlp.up_proj", lk.LoRA(), "lm"),
    "alpha that is no whole number": ("llama", 3, "q", lk.LoRA(alpha=2.5), "lm"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("family", "rank", "targets", "method", "head"), OURS.values(), ids=OURS.keys()
)
def test_peft_loads_ours(family, rank, targets, method, head, tmp_path):
    model = build(family, head=head)
    lk.inject(model, lk.plan(model, targets, rank), name="x", method=method)
    randomise(model, "x")
    lk.save(model, tmp_path / "x")
    with torch.no_grad():
        expected = model(**batch(model, family, head)).logits
        theirs = peft.PeftModel.from_pretrained(build(family, head=head), str(tmp_path / "x"))
        found = theirs.eval()(**batch(model, family, head)).logits
    assert (found - expected).abs().max() <= 8 * torch.finfo(
        torch.float32
    ).eps * expected.abs().max()


def test_targets_whose_paths_end_alike_are_told_apart(tmp_path):
    """A module `lin` and a module `block.lin`: PEFT compares ends, so a name is not enough."""

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.lin = torch.nn.Linear(4, 4)
            self.block = torch.nn.Sequential()
            self.block.add_module("lin", torch.nn.Linear(4, 4))

        def forward(self, x):
            return self.block(torch.relu(self.lin(x)))

    torch.manual_seed(0)
    model, x = Net(), torch.randn(3, 4)
    other = Net()
    other.load_state_dict(model.state_dict())
    lk.inject(model, {"lin": 2}, name="x")
    randomise(model, "x")
    lk.save(model, tmp_path / "x")
    expected = model(x)
    theirs = peft.PeftModel.from_pretrained(other, str(tmp_path / "x"))
    assert torch.allclose(theirs(x), expected, atol=1e-6)


def test_saving_again_writes_the_same_bits(tmp_path):
    model = build("gpt2")
    lk.inject(model, lk.plan(model, "all-linear", 3), name="x")
    randomise(model, "x")
    lk.save(model, tmp_path / "a")
    lk.save(model, tmp_path / "b")
    a, b = (load_file(tmp_path / n / "adapter_model.safetensors") for n in "ab")
    assert a.keys() == b.keys()
    assert all(torch.equal(bits(a[key]), bits(b[key])) for key in a)


def test_the_stored_outputs_of_an_old_release(real):
    """A PEFT folder of 2023 whose weights are a pickle is refused, and says what to do."""
    folder = real / "adapters" / "peft_regression" / "lora_mlp" / "0.6.1"
    model = torch.nn.Module()
    model.lin0 = torch.nn.Linear(10, 20)
    with pytest.raises(lk.LorakitError, match="pickle"):
        lk.load(model, folder)


def test_the_config_is_what_readers_of_peft_folders_expect(tmp_path):
    model = build("bert", head="classes")
    plan = lk.plan(model, ["q", "v"], 4)
    lk.inject(model, plan, name="x", method=lk.LoRA(alpha=8, dropout=0.1, extras=("classifier",)))
    lk.save(model, tmp_path / "x")
    config = json.loads((tmp_path / "x" / "adapter_config.json").read_text())
    assert config["peft_type"] == "LORA"
    assert config["target_modules"] == ["query", "value"]
    assert (config["r"], config["lora_alpha"], config["lora_dropout"]) == (4, 8, 0.1)
    assert config["modules_to_save"] == ["classifier"]
    assert config["task_type"] == "SEQ_CLS"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert peft.LoraConfig.from_pretrained(str(tmp_path / "x")).r == 4


class Alike(nn.Module):
    """Modules whose names are one name, if a point may stand for any letter."""

    def __init__(self) -> None:
        super().__init__()
        self.x = nn.ModuleDict({"q": nn.Linear(4, 4)})
        self.x_q = nn.Linear(4, 4)
        self.add_module("a+b", nn.Linear(4, 4))

    def forward(self, x):
        return self.x["q"](x) + self.x_q(x) + self.get_submodule("a+b")(x)


@pytest.mark.parametrize("strength", [1.0, 0.5, -2.0])
def test_each_layer_keeps_its_own_alpha(strength, tmp_path):
    torch.manual_seed(0)
    model, alphas = Alike(), {"x.q": 8.0, "x_q": 16.0, "a+b": 32.0}
    lk.inject(model, dict.fromkeys(alphas, 2), name="one", method=lk.LoRA(alpha=alphas))
    randomise(model, "one")
    set_strength(model, "one", strength)
    x = torch.randn(3, 4)
    with torch.no_grad(), lk.use(model, "one"):
        expected = model(x)
    lk.save(model, tmp_path / "a", name="one")
    torch.manual_seed(0)
    fresh = Alike()
    lk.load(fresh, tmp_path / "a", name="one")
    with torch.no_grad(), lk.use(fresh, "one"):
        torch.testing.assert_close(fresh(x), expected)


def test_a_strength_that_no_file_can_say_is_refused(tmp_path):
    model = Alike()
    lk.inject(model, {"x_q": 2}, name="one")
    set_strength(model, "one", 0.0)
    with pytest.raises(lk.LorakitError, match="strength 0"):
        lk.save(model, tmp_path / "a", name="one")
    assert not (tmp_path / "a").exists()
    lk.merge(model, "one")
    with pytest.raises(lk.LorakitError, match="unmerge"):
        set_strength(model, "one", 1.0)
