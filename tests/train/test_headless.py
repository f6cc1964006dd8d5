"""Training without whole logits: the same losses, and only where the model allows it."""

from __future__ import annotations

import pytest
import torch
import transformers as tf
from test_run import adapter_bytes, stop_after
from torch import nn
from transformers import TrainingArguments

import lorakit as lk
from families import CONFIGS, ENCODERS, EXPERTS, SEQ2SEQ, VOCABULARY, build, randomise
from lorakit.core.errors import DeadAdapterError, TrainingError
from lorakit.models import headless, token_loss
from lorakit.train import AdapterTrainer
from lorakit.train.record import read_events
from lorakit.train.run import run

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:torch.*")
WHOLE = 2**62
_small = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 48, "num_key_value_heads": 2,
}  # fmt: skip
# Models that scale or cap their logits, or add to their loss.
OWN_WAYS = {
    "gemma2": CONFIGS["gemma2"],
    "cohere": lambda: tf.CohereConfig(pad_token_id=0, logit_scale=0.5, **_small),
    "granite": lambda: tf.GraniteConfig(pad_token_id=0, logits_scaling=8.0, **_small),
    "mixtral": lambda: tf.MixtralConfig(
        num_local_experts=4, num_experts_per_tok=2, output_router_logits=True, **_small
    ),
}
CAUSAL = [name for name in (*CONFIGS, *EXPERTS) if name not in (*ENCODERS, *SEQ2SEQ, "gemma2")]


def adapted(model, targets="attention"):
    model.config.use_cache = False
    lk.inject(model, lk.plan(model, targets, 2), method=lk.LoRA(alpha=4, dropout=0.1))
    randomise(model, "default")
    return model


def step(model, limit, monkeypatch, *, count: int | None = 17, **options):
    """One training step on a batch with masks: loss, gradients, and whether logits were chunked."""
    torch.manual_seed(0)
    ids = torch.randint(4, VOCABULARY, (3, 13))
    labels = ids.clone()
    labels[:, :4] = labels[1, 9:] = -100
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}
    args = TrainingArguments("unused", report_to="none", use_cpu=True, disable_tqdm=True, **options)
    monkeypatch.setattr(token_loss, "LOGITS", limit)
    trainer = AdapterTrainer(model, args, train_dataset=[])
    trainer.create_optimizer()
    trainer.current_gradient_accumulation_steps = 2
    model.zero_grad()
    number = torch.tensor(count) if count and trainer.model_accepts_loss_kwargs else None
    loss = trainer.training_step(model, batch, num_items_in_batch=number)
    grads = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return loss, grads, list(trainer._headless.values())


def same_steps(model, monkeypatch, **options) -> list[bool]:
    whole, expected, none = step(model, WHOLE, monkeypatch, **options)
    loss, grads, chunked = step(model, 0, monkeypatch, **options)
    assert none == []
    torch.testing.assert_close(loss, whole, rtol=1e-6, atol=0)
    assert grads.keys() == expected.keys()
    for name, grad in grads.items():
        torch.testing.assert_close(grad, expected[name], rtol=1e-4, atol=1e-6)
    return chunked


@pytest.mark.parametrize("family", CAUSAL)
def test_every_family_gives_the_same_loss_and_gradients(family, monkeypatch):
    assert same_steps(adapted(build(family)), monkeypatch) == [True]


@pytest.mark.parametrize("count", [17, None])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_counts_and_label_smoothing_are_those_of_the_trainer(smoothing, count, monkeypatch):
    model = adapted(build("llama"))
    chunked = same_steps(model, monkeypatch, count=count, label_smoothing_factor=smoothing)
    assert chunked == [True]


@pytest.mark.parametrize("family", OWN_WAYS)
def test_what_a_model_does_with_its_logits_is_left_to_it(family, monkeypatch):
    torch.manual_seed(0)
    model = tf.AutoModelForCausalLM.from_config(OWN_WAYS[family]())
    assert same_steps(adapted(model), monkeypatch) == [False]


def test_a_bound_on_logits_that_none_has_reached_is_found(monkeypatch):
    model = adapted(build("llama"))
    own = model.forward

    def bounded(*args, logits_to_keep=0, **kwargs):
        out = own(*args, **kwargs)
        out.logits = out.logits.clamp(-5, 5)
        return out

    monkeypatch.setattr(model, "forward", bounded)
    assert same_steps(model, monkeypatch) == [False]


@pytest.mark.parametrize("why", ["adapted", "trained", "watched", "embeddings of it adapted"])
def test_a_head_that_is_not_plain_is_called_as_it_is(why, monkeypatch):
    model = build("llama-tied" if "embeddings" in why else "llama")
    targets = {"adapted": ["q", "head"], "embeddings of it adapted": ["q", "embeddings"]}
    adapted(model, targets.get(why, "q"))
    if why == "trained":
        model.lm_head.weight.requires_grad_(True)
    if why == "watched":
        model.lm_head.register_forward_hook(lambda layer, args, out: None)
    # The adapter of a tied table acts on what is looked up, not on the head.
    assert same_steps(model, monkeypatch) == ([True] if "embeddings" in why else [])


def test_a_head_trained_in_full_is_called_as_it_is(monkeypatch):
    model = build("llama")
    model.config.use_cache = False
    lk.inject(model, lk.plan(model, "q", 2), method=lk.LoRA(alpha=4, extras=("lm_head",)))
    assert same_steps(model, monkeypatch) == []


def test_bfloat16_is_as_near_to_float32(monkeypatch):
    model = adapted(build("llama"))
    _, exact, _ = step(model, WHOLE, monkeypatch)
    for name, parameter in model.named_parameters():
        if ".lora." not in name:
            parameter.data = parameter.data.bfloat16()
    errors = []
    for limit in (WHOLE, 0):
        loss, grads, chunked = step(model, limit, monkeypatch)
        assert loss.dtype == torch.float32
        errors.append(sum(float((grads[n] - exact[n]).square().sum()) for n in exact))
    assert chunked == [True]
    assert errors[1] < 2 * errors[0]


def losses_of(result) -> torch.Tensor:
    events = read_events(result.folder / "events.jsonl")
    return torch.tensor([event["loss"] for event in events if "loss" in event])


@pytest.mark.parametrize("task", ["completion", "text"])
def test_a_whole_run_has_the_same_losses(task, recipe_for, tmp_path, monkeypatch):
    changes = {
        "train__steps": 32, "train__lr": 2e-3, "train__accumulate": 2, "train__checkpointing": True,
    }  # fmt: skip
    whole = run(recipe_for(task, output=str(tmp_path / "whole"), **changes), quiet=True)
    monkeypatch.setattr(token_loss, "LOGITS", 0)
    chunked = run(recipe_for(task, **changes), quiet=True)
    assert "in chunks" in (chunked.folder / "log.txt").read_text()
    assert "in chunks" not in (whole.folder / "log.txt").read_text()
    torch.testing.assert_close(losses_of(chunked), losses_of(whole), rtol=1e-5, atol=0)
    assert chunked.metrics["eval_loss"] == pytest.approx(whole.metrics["eval_loss"], rel=1e-5)


@pytest.mark.parametrize("death", [0, 7])
def test_a_run_in_chunks_resumes_to_the_same_bits(death, recipe_for, tmp_path, monkeypatch):
    monkeypatch.setattr(token_loss, "LOGITS", 0)
    whole = run(recipe_for(output=str(tmp_path / "whole")), quiet=True)
    with monkeypatch.context() as patch:
        crash = stop_after(patch, death)
        with pytest.raises(crash):
            run(recipe_for(), quiet=True)
    resumed = run(recipe_for(), resume=True, quiet=True)
    assert adapter_bytes(resumed.folder) == adapter_bytes(whole.folder)


def test_dead_adapters_are_found_and_no_hook_is_left(monkeypatch):
    model = build("llama")
    model.config.use_cache = False
    model.spare = nn.Linear(4, 4)
    lk.inject(model, {**lk.plan(model, "q", 2), "spare": 2})
    with pytest.raises(DeadAdapterError, match="spare A"):
        step(model, 0, monkeypatch)
    assert not model.lm_head._forward_pre_hooks


def test_a_head_that_is_called_twice_all_at_once_is_an_error():
    model = build("llama")
    head = headless.plain_head(model.requires_grad_(False))
    assert head is not None
    ids = torch.randint(4, VOCABULARY, (2, 5))

    def twice(**inputs):
        model(**inputs)
        model(**inputs)

    with pytest.raises(TrainingError, match="2 times"):
        headless.Headless(twice, head)(input_ids=ids, labels=ids)
    assert not head._forward_pre_hooks


def test_other_threads_get_all_logits_meanwhile():
    from concurrent.futures import ThreadPoolExecutor

    model = build("llama").requires_grad_(False)
    ids = torch.randint(4, VOCABULARY, (2, 5))
    shapes = []

    def between(**inputs):
        model(**inputs)
        with ThreadPoolExecutor(1) as pool:
            shapes.append(pool.submit(lambda: model(input_ids=ids).logits.shape).result())

    head = headless.plain_head(model)
    assert head is not None
    headless.Headless(between, head)(input_ids=ids, labels=ids)
    assert shapes == [(2, 5, VOCABULARY)]
