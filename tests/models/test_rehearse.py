"""A rehearsal without weights takes what the same step takes with them."""

from __future__ import annotations

import pytest
import torch
import transformers as tf

import families
import lorakit as lk
from lorakit.bench.peak import peak_bytes
from lorakit.models.checkpointing import checkpoint_blocks
from lorakit.models.headless import Headless, is_large, plain_head
from lorakit.models.load import DTYPES, structure
from lorakit.models.quantise import packed_bytes
from lorakit.models.rehearse import Batch, Stage
from lorakit.tasks.base import token_statistics

pytestmark = pytest.mark.filterwarnings("ignore")
WIDE = {"hidden_size": 128, "num_attention_heads": 4, "num_hidden_layers": 2,
        "intermediate_size": 256}  # fmt: skip
CONFIGS = {
    "llama": lambda: tf.LlamaConfig(vocab_size=512, **WIDE),
    "grouped": lambda: tf.Qwen3Config(
        vocab_size=512, num_key_value_heads=2, head_dim=32, tie_word_embeddings=True, **WIDE
    ),
    "large": lambda: tf.LlamaConfig(vocab_size=32768, **WIDE),
    "gpt2": lambda: tf.GPT2Config(vocab_size=512, n_embd=128, n_layer=2, n_head=4),
    "bert": lambda: tf.BertConfig(vocab_size=512, **WIDE),
    "t5": lambda: tf.T5Config(
        vocab_size=512, d_model=128, d_kv=32, d_ff=256, num_layers=2, num_heads=4,
        decoder_start_token_id=0, pad_token_id=0,
    ),
}  # fmt: skip
CASES = [
    ("llama", "causal", {}, {}),
    ("llama", "causal", {"dropout": 0.1}, {}),
    ("llama", "causal", {}, {"precision": "bf16"}),
    ("llama", "causal", {}, {"checkpointing": True}),
    ("llama", "causal", {"in_float32": True}, {"precision": "bf16"}),
    ("grouped", "causal", {}, {"full": False}),
    ("large", "causal", {}, {}),
    ("large", "causal", {}, {"counted": 0.5, "full": False}),
    ("gpt2", "causal", {}, {"full": False}),
    ("gpt2", "causal", {}, {"targets": ["q", "v"]}),
    ("bert", "classes", {}, {"full": False}),
    ("bert", "classes", {}, {"targets": ["q", "v"], "checkpointing": True}),
    ("t5", "seq2seq", {}, {"full": False}),
]


def rehearsed(family, kind, method, *, targets="all-linear", precision="fp32", checkpointing=False,
              **shape):  # fmt: skip
    model = structure(CONFIGS[family](), kind, ["a", "b"])
    chosen = lk.plan(model, targets, 8) if method is not None else {}
    stage = Stage(
        model, chosen, method, kind=kind, precision=precision, checkpointing=checkpointing
    )
    return stage, Batch(4, 96, 64 if kind == "seq2seq" else None, **shape)


def real_step(family, kind, method, batch, *, targets="all-linear", precision="fp32",
              checkpointing=False, **_):  # fmt: skip
    """The same step with weights; what it takes above them."""
    empty = structure(CONFIGS[family](), kind, ["a", "b"])
    model = type(empty)(empty.config)
    for parameter in model.parameters():
        parameter.data = parameter.data.to(DTYPES[precision])
    if method is not None:
        lk.inject(model, lk.plan(model, targets, 8), method=method)
    model.config.use_cache = False
    model.train()
    if checkpointing:
        checkpoint_blocks(model)
    ids = torch.randint(1, 500, (batch.rows, batch.length))
    mask = torch.ones_like(ids)
    if not batch.full:
        mask[0, batch.length // 2 :] = 0
    labels = ids[:, : batch.targets].clone()
    if kind == "classes":
        labels = labels[:, 0] % 2
    labels.view(-1)[round(labels.numel() * batch.counted) :] = -100
    inputs = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    head = plain_head(model)
    ask = Headless(model, head) if head is not None and is_large(head, labels) else model

    def step():
        ask(**inputs)["loss"].backward()

    step()
    model.zero_grad(set_to_none=True)
    return peak_bytes(step)


def name(case) -> str:
    family, _, method, given = case
    return "-".join([family, *map(str, {**method, **given}.items())])


@pytest.mark.parametrize("case", CASES, ids=name)
def test_a_rehearsal_takes_what_the_step_takes(case):
    family, kind, options, given = case
    extras = ("classifier",) if kind == "classes" else ()
    method = lk.LoRA(extras=extras, **options)
    stage, batch = rehearsed(family, kind, method, **given)
    found = stage.rehearse(batch)
    there = sum(found.parts[part] for part in ("weights", "adapter", "optimiser"))
    known = real_step(family, kind, method, batch, **given)
    assert found.peak - there == pytest.approx(known, rel=0.04)


@pytest.mark.parametrize("method", [lk.DoRA(), lk.VeRA(), lk.LoRAFA()], ids=lambda m: m.name)
def test_every_method_can_be_rehearsed(method):
    stage, batch = rehearsed("llama", "causal", method)
    found = stage.rehearse(batch)
    known = real_step("llama", "causal", method, batch)
    there = sum(found.parts[part] for part in ("weights", "adapter", "optimiser"))
    assert found.peak - there == pytest.approx(known, rel=0.04)


def test_training_all_of_it_takes_its_states():
    stage, batch = rehearsed("llama", "causal", None)
    found = stage.rehearse(batch)
    count = sum(p.numel() for p in stage.trained)
    assert found.parts["weights"] == count * 4 + stage.model.model.rotary_emb.inv_freq.nbytes * 2
    assert found.parts["optimiser"] == count * 8
    known = real_step("llama", "causal", None, batch)
    there = found.parts["weights"] + found.parts["optimiser"]
    assert found.peak - there == pytest.approx(known, rel=0.04)
    narrow, _ = rehearsed("llama", "causal", None, precision="bf16")
    parts = narrow.rehearse(batch).parts
    assert parts["weights"] - count * (2 + 4) < 1000  # weights, and masters in float32
    assert parts["gradients"] == count * 4


def test_nothing_is_kept_before_the_first_adapter():
    kept = {}
    for layer in (0, 1):
        stage, batch = rehearsed("llama", "causal", lk.LoRA(), targets=f"*.layers.{layer}.*")
        kept[layer] = stage.rehearse(batch).parts["activations"]
    assert kept[1] < 0.65 * kept[0]


def test_a_second_rehearsal_is_as_the_first_and_added_gradients_count():
    stage, batch = rehearsed("llama", "causal", lk.LoRA())
    first = stage.rehearse(batch)
    assert stage.rehearse(batch) == first
    assert stage.rehearse(Batch(batch.rows, batch.length, passes=4)).peak > first.peak
    assert stage.rehearse(Batch(2 * batch.rows, batch.length)).peak > first.peak


def test_an_evaluation_has_all_logits():
    stage, batch = rehearsed("large", "causal", lk.LoRA())
    made = stage.evaluate(batch, lambda logits, labels: logits.float().argmax(-1))
    assert made.parts["loss"] >= batch.rows * batch.length * 32768 * 4
    assert made.peak > stage.rehearse(batch).peak


@pytest.mark.parametrize("family", ["large", "grouped", "t5"])
def test_an_evaluation_takes_what_it_takes(family):
    kind = "seq2seq" if family == "t5" else "causal"
    stage, batch = rehearsed(family, kind, lk.LoRA(), full=True)

    def statistics(logits, labels):
        return token_statistics(logits, labels, shifted=kind == "causal")

    made = stage.evaluate(batch, statistics)
    empty = structure(CONFIGS[family](), kind)
    model = type(empty)(empty.config).eval()
    model.config.use_cache = False
    lk.inject(model, lk.plan(model), method=lk.LoRA())
    ids = torch.randint(1, 500, (batch.rows, batch.length))
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    labels = ids[:, : batch.targets].clone()

    @torch.no_grad()
    def step():
        statistics(model(labels=labels, **given)["logits"], labels)

    step()
    there = sum(made.parts[part] for part in ("weights", "adapter", "optimiser"))
    assert made.peak - there == pytest.approx(peak_bytes(step), rel=0.04)


@pytest.mark.parametrize(("how", "most"), [("nf4", 0.02), ("int8", 0.12)])
def test_a_quantised_step_takes_what_it_takes(how, most):
    # LLM.int8() rounds the layers' inputs, too, in memory that its library takes for itself.
    pytest.importorskip("bitsandbytes")
    config = tf.LlamaConfig(vocab_size=512, **{**WIDE, "hidden_size": 512})
    model = structure(config, "causal")
    stage = Stage(
        model, lk.plan(model), lk.LoRA(), kind="causal", precision="bf16", quantise=how
    )  # fmt: skip
    found = stage.rehearse(Batch(4, 96))
    real = tf.LlamaForCausalLM(config).to(torch.bfloat16)
    real.config.use_cache = False
    families.quantise(real.train(), how)
    lk.inject(real, lk.plan(real), method=lk.LoRA())
    ids = torch.randint(1, 500, (4, 96))

    def step():
        real(input_ids=ids, attention_mask=torch.ones_like(ids), labels=ids)["loss"].backward()

    step()
    real.zero_grad(set_to_none=True)
    there = sum(found.parts[part] for part in ("weights", "adapter", "optimiser"))
    assert found.peak - there == pytest.approx(peak_bytes(step), rel=most)


def test_quantised_weights_are_counted_packed():
    plain, batch = rehearsed("llama", "causal", lk.LoRA(), precision="bf16")
    model = structure(CONFIGS["llama"](), "causal")
    stage = Stage(model, lk.plan(model), lk.LoRA(), kind="causal", precision="bf16", quantise="nf4")
    linear = sum(p.numel() for n, p in model.named_parameters() if "_proj" in n and "lora" not in n)
    saved = plain.rehearse(batch).parts["weights"] - stage.rehearse(batch).parts["weights"]
    assert saved == pytest.approx(linear * (2 - 0.5 - 1 / 64), rel=0.01)


def test_packed_bytes_are_those_of_bitsandbytes():
    quantised = pytest.importorskip("bitsandbytes")
    layer = quantised.nn.Linear4bit(
        256, 512, bias=False, quant_type="nf4", compress_statistics=True
    )
    layer = layer.to("cpu")
    weight, state = layer.weight, layer.weight.quant_state
    held = weight.nbytes + state.absmax.nbytes + state.state2.absmax.nbytes
    assert packed_bytes("nf4", 512, 256) == held


def test_injecting_for_real_still_wants_weights():
    model = structure(CONFIGS["llama"](), "causal")
    rehearsed("llama", "causal", lk.LoRA())
    with pytest.raises(lk.LorakitError, match="meta device"):
        lk.inject(model, lk.plan(model))
