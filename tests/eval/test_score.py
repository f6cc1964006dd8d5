"""Rows with known answers: figures by definition, whatever the batches, with intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import AutoModelForSeq2SeqLM, AutoModelForSequenceClassification, set_seed

import lorakit as lk
from families import CONFIGS
from lorakit.core.errors import DataError
from lorakit.demo import base_folder
from lorakit.eval.batches import grouped
from lorakit.eval.interval import Estimate, estimate
from lorakit.eval.score import evaluate_rows
from lorakit.models.load import load_base
from lorakit.tasks import make_task
from lorakit.tasks.base import IGNORED
from lorakit.tasks.options import DataOptions


def encoded(count: int, *, classes: int = 0, vocabulary: int = 40) -> list[dict]:
    generator = torch.Generator().manual_seed(0)
    rows = []
    for place in range(count):
        length = 3 + int(torch.randint(6, (), generator=generator))
        ids = torch.randint(5, vocabulary, (length,), generator=generator).tolist()
        labels = place % classes if classes else [IGNORED, *ids[1:]]
        rows.append({"input_ids": ids, "attention_mask": [1] * length, "labels": labels})
    return rows


@pytest.fixture(scope="module")
def causal():
    return load_base(str(base_folder()), "causal").model


def test_batches_hold_every_row_once_the_longest_first():
    lengths = [3, 9, 1, 9, 4]
    batches = grouped(lengths, 2)
    assert sorted(place for batch in batches for place in batch) == list(range(5))
    assert [lengths[place] for batch in batches for place in batch] == [9, 9, 4, 3, 1]
    assert max(map(len, batches)) == 2


def test_token_figures_are_those_of_each_row_alone(causal):
    rows = encoded(7)
    task = make_task("completion", DataOptions(train="x"))
    found = evaluate_rows(causal, task, rows, padding=0, batch_size=3)
    total = tokens = 0.0
    for place, row in enumerate(rows):
        ids = torch.tensor([row["input_ids"]])
        with torch.no_grad():
            logits = causal(ids).logits[0, :-1]
        loss = F.cross_entropy(logits, ids[0, 1:], reduction="sum")
        assert found.statistics[place, 0] == pytest.approx(float(loss), rel=1e-4)
        total, tokens = total + float(loss), tokens + len(ids[0]) - 1
    assert found.metrics["loss"] == pytest.approx(total / tokens, rel=1e-5)
    assert found.metrics["perplexity"] == pytest.approx(math.exp(total / tokens), rel=1e-4)


def test_a_model_in_memory_with_an_adapter(causal):
    rows = encoded(4)
    task = make_task("completion", DataOptions(train="x"))
    plain = evaluate_rows(causal, task, rows, padding=0)
    lk.inject(causal, lk.plan(causal, targets="attention", rank=2), name="own")
    try:
        with torch.no_grad():
            for name, value in causal.named_parameters():
                if name.endswith("lora_B") or ".B" in name:
                    value.fill_(0.3)
        causal.train()
        active = evaluate_rows(causal, task, rows, padding=0)
        assert causal.training
        named = evaluate_rows(causal, task, rows, padding=0, adapters=["own"])
        base = evaluate_rows(causal, task, rows, padding=0, adapters=[])
    finally:
        causal.eval()
        lk.remove(causal, "own")
    assert active.metrics == named.metrics
    assert base.metrics == plain.metrics
    assert not np.allclose(active.statistics, base.statistics)


def test_classes_and_encoder_decoders():
    config = CONFIGS["bert"]()
    config.num_labels, config.pad_token_id = 3, 0
    set_seed(0)
    model = AutoModelForSequenceClassification.from_config(config).eval()
    task = make_task("classification", DataOptions(train="x"))
    rows = encoded(9, classes=3, vocabulary=config.vocab_size)
    told: list[int] = []
    found = evaluate_rows(model, task, rows, padding=0, batch_size=4, done=told.append)
    assert told == [4, 4, 1]
    assert found.labels.tolist() == [row["labels"] for row in rows]
    alone = [
        evaluate_rows(model, task, [row], padding=0).statistics[0, 0] for row in rows
    ]  # fmt: skip
    assert found.statistics[:, 0].tolist() == alone
    both = AutoModelForSeq2SeqLM.from_config(CONFIGS["t5"]()).eval()
    scored = evaluate_rows(
        both, make_task("seq2seq", DataOptions(train="x")), encoded(3), padding=0
    )
    assert scored.metrics["loss"] > 0


def test_no_rows_are_refused(causal):
    with pytest.raises(DataError, match="no rows"):
        evaluate_rows(causal, make_task("text", DataOptions(train="x")), [], padding=0)


def test_the_interval_of_a_mean_is_the_normal_one():
    values = np.random.default_rng(1).normal(3.0, 2.0, 400)
    found = estimate(400, lambda places: {"mean": float(values[places].mean())})["mean"]
    half = 1.96 * values.std() / math.sqrt(400)
    assert found.low is not None
    assert found.high is not None
    assert found.value == values.mean()
    assert found.low == pytest.approx(values.mean() - half, abs=half / 5)
    assert found.high == pytest.approx(values.mean() + half, abs=half / 5)
    again = estimate(400, lambda places: {"mean": float(values[places].mean())})["mean"]
    assert again == found


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    generator = np.random.default_rng(2)
    inside = 0
    for _ in range(200):
        values = generator.random(60) < 0.7
        one = estimate(60, lambda p, v=values: {"share": float(v[p].mean())}, resamples=200)[
            "share"
        ]
        assert one.low is not None
        assert one.high is not None
        inside += one.low <= 0.7 <= one.high
    assert 0.88 < inside / 200 <= 1.0


def test_one_row_has_no_interval():
    assert estimate(1, lambda places: {"a": 2.0})["a"] == Estimate(2.0, 1)
    assert str(Estimate(2.0, 1)) == "2"
    assert str(Estimate(2.0, 9, 1.5, 2.5)) == "2 [1.5, 2.5]"
