"""What is forecast of a recipe: the paper's own figures, the largest batch, time and advice."""

from __future__ import annotations

import json
import typing
from dataclasses import replace

import pytest
import torch
import yaml

import lorakit as lk
from lorakit.analysis.cost import cost
from lorakit.analysis.machine import Speed, measure_speed
from lorakit.demo import base_folder
from lorakit.demo.rows import rows
from lorakit.models.rehearse import Batch
from lorakit.train.advice import advise
from lorakit.train.forecast import ERROR, Question, forecast, largest_batch, step_seconds
from lorakit.train.options import LOW_RANK, SIZED, Method
from lorakit.train.outlook import Asked, about_model, bytes_of, outlook
from lorakit.train.recipe import make_recipe

pytestmark = pytest.mark.filterwarnings("ignore")
GPT3 = {
    "model_type": "gpt2", "n_layer": 96, "n_embd": 12288, "n_head": 96, "n_positions": 2048,
    "attn_pdrop": 0.0, "resid_pdrop": 0.0, "embd_pdrop": 0.0,
}  # fmt: skip


def config_file(folder, **fields):
    file = folder / "some.json"
    file.write_text(json.dumps(fields))
    return str(file)


@pytest.fixture
def small(tmp_path):
    """A Llama of two layers, by its config alone."""
    return config_file(
        tmp_path, model_type="llama", hidden_size=128, num_attention_heads=4, vocab_size=2048,
        num_hidden_layers=2, intermediate_size=256, max_position_embeddings=512,
    )  # fmt: skip


@pytest.fixture(scope="module")
def gpt3(tmp_path_factory):
    """GPT-3 175B, adapted as section 4.2 of the paper says: rank 4 on query and value."""
    file = config_file(tmp_path_factory.mktemp("gpt3"), **GPT3)
    fields = {"lora.rank": 4, "lora.targets": ["q", "v"], "train.precision": "fp16"}
    question = about_model(file, {**fields, "train.batch_size": 1, "train.checkpointing": True})
    return question, forecast(question)


def test_gpt3_has_the_papers_parameters(gpt3):
    _, found = gpt3
    # 175 billion; the head is tied to the embeddings, and positions are learned.
    assert found.cost.base_parameters == pytest.approx(175e9, rel=0.005)
    assert len(found.plan) == 2 * 96
    assert found.cost.parameters == 96 * 2 * 2 * 4 * 12288 == 18_874_368
    # Tables 4 and 15: 4.7 M is rank 1, 37.7 M rank 8; 10,000 times fewer is this rank.
    assert found.cost.base_parameters / found.cost.parameters == pytest.approx(9_251, rel=1e-3)
    for rank, parameters in ((1, 4.7e6), (8, 37.7e6)):
        assert 18_874_368 / 4 * rank == pytest.approx(parameters, rel=0.005)


def test_gpt3s_checkpoint_is_10_000_times_smaller(gpt3):
    _, found = gpt3
    half = found.cost.parameters * 2  # in fp16, as the paper keeps it; files here are float32
    assert found.cost.adapter_bytes == 2 * half
    assert half == pytest.approx(35 * 2**20, rel=0.03)  # "35MB" are 36 MiB, or 37.7 MB of 1e6
    assert found.cost.base_bytes == pytest.approx(350e9, rel=0.005)
    assert found.cost.base_bytes / half == pytest.approx(10_000, rel=0.08)


def test_gpt3s_training_memory_is_that_of_its_weights(gpt3):
    _, found = gpt3
    assert found.adapted is not None
    assert found.full is not None
    assert found.adapted.peak == pytest.approx(350e9, rel=0.03)  # one row of 512 tokens
    weights = found.adapted.parts["weights"]
    # "1.2TB": between weights with two moments, all in fp16 (6 bytes a parameter), and these with
    # gradients (8). AdamW with float32 masters takes 18 bytes.
    assert 3 * weights < 1.2e12 < 4 * weights
    assert found.full.peak == pytest.approx(9 * weights, rel=0.02)


def test_a_forecast_of_a_recipe_reads_its_rows(tmp_path):
    lines = [json.dumps({"prompt": row["prompt"], "completion": row["completion"]})
             for row in rows(60, seed=0)]  # fmt: skip
    (tmp_path / "train.jsonl").write_text("\n".join(lines) + "\n")
    raw = {
        "model": str(base_folder()), "task": "completion", "output": "none",
        "data": {"train": str(tmp_path / "train.jsonl"), "eval_share": 0.1},
        "train": {"device": "cpu", "accumulate": 2},
    }  # fmt: skip
    found = forecast(Question(make_recipe(raw)))
    assert found.expected.rows == 54
    assert found.expected.source == "the longest of 54 of 54 rows"
    assert 20 < found.expected.batch.length < 512
    assert 0 < found.expected.batch.counted < 1
    assert found.expected.tokens is not None
    assert found.expected.tokens > 54
    assert found.evaluation is not None
    assert found.evaluation.peak > 0
    (tmp_path / "e2e").mkdir()
    (tmp_path / "e2e" / "trainset.csv").write_text("mr,ref\n" + "name[Aromi],Aromi is good.\n" * 3)
    own = {"benchmark": "e2e", "train": str(tmp_path / "e2e")}
    benchmark = forecast(Question(make_recipe({**raw, "data": own})))
    assert benchmark.expected.source == "the longest of 3 of 3 rows"
    raw["data"] |= {"train": str(tmp_path / "gone.jsonl"), "max_length": 77}
    blind = forecast(Question(make_recipe(raw)))
    assert (blind.expected.batch.length, blind.expected.source) == (77, "data.max_length")


def test_what_cannot_be_rehearsed_is_said_and_costs_are_told_all_the_same(small, monkeypatch):
    def refuse(*_):
        raise RuntimeError("no shapes for this\nmore")

    monkeypatch.setattr("lorakit.models.rehearse.Stage.rehearse", refuse)
    question = about_model(small, {})
    found = outlook(question, Asked())
    assert found.forecast.refused == "no shapes for this"
    assert "not known. no shapes" in str(found)
    assert found.as_dict()["parameters"] == found.forecast.cost.parameters > 0


def test_methods_and_starts_have_their_own_parameters(small):
    def parts(**fields):
        asked = {f"lora.{name}": value for name, value in fields.items()}
        return forecast(about_model(small, {**asked, "data.max_length": 16}))

    plain, dora, vera, pissa = (
        parts(), parts(method="dora"), parts(method="vera"), parts(init="pissa")
    )  # fmt: skip
    assert vera.cost.parameters < plain.cost.parameters < dora.cost.parameters
    assert pissa.cost.parameters == plain.cost.parameters
    assert pissa.adapted.parts["adapter"] == 2 * plain.adapted.parts["adapter"]


def test_the_largest_batch_is_the_last_that_fits(small):
    question = about_model(small, {"data.max_length": 64})
    chosen, _, extras = question.cost()
    stage = question.stage(chosen, extras)
    batch = question.expected.batch
    memory = stage.rehearse(replace(batch, rows=23)).peak * (1 + ERROR) + 1000
    found = largest_batch(stage.rehearse, batch, memory)
    assert found == 23
    assert largest_batch(stage.rehearse, batch, 1e5) == 0
    many = largest_batch(stage.rehearse, batch, memory * 1000)  # more than is rehearsed
    peak = stage.rehearse(replace(batch, rows=many)).peak
    assert peak * (1 + ERROR) == pytest.approx(memory * 1000, rel=0.01)


def test_time_is_that_of_products_or_of_bytes(small):
    speed = Speed(flops=1e9, bytes=1e9, start=0.0)
    assert speed.seconds(2_000_000_000, 5) == 2
    assert speed.seconds(5, 3_000_000_000) == 3
    question = about_model(small, {"data.max_length": 64})
    chosen, _, extras = question.cost()
    rehearsal = question.stage(chosen, extras).rehearse(Batch(4, 64))
    assert step_seconds(rehearsal, speed) >= rehearsal.flops / 1e9
    assert step_seconds(rehearsal, speed, 6) == pytest.approx(3 * step_seconds(rehearsal, speed))
    here = measure_speed(torch.float32, seconds=0.05)
    assert here.flops > 1e7
    assert here.bytes > 1e6
    assert 0 < here.start < 0.1


def advice(small, targets="all-linear", rank=8, tokens=None, steps=None):
    question = about_model(small, {"lora.targets": targets, "lora.rank": rank})
    chosen, found, _ = question.cost()
    made = advise(
        question.structure(), chosen, parameters=found.parameters, tokens=tokens, steps=steps,
        rows=8,
    )  # fmt: skip
    return found.parameters, {one.setting: one for one in made}


def test_the_rank_is_to_have_room_for_the_completions(small):
    parameters, enough = advice(small, tokens=1000)
    assert "8 is enough" in enough["rank"].advice
    _, few = advice(small, tokens=parameters * 3)
    assert "raise it to about 24" in few["rank"].advice
    _, unknown = advice(small)
    assert f"{parameters:,}" in unknown["rank"].advice
    _, hopeless = advice(small, "q", tokens=10**9)
    assert "no rank would do" in hopeless["rank"].advice
    assert all("Regret" in one.source for one in few.values())


def test_the_rate_is_higher_for_short_runs(small):
    assert advice(small, steps=50)[1]["lr"].advice.startswith("15 times")
    assert advice(small, steps=100)[1]["lr"].advice.startswith("10 times")
    assert advice(small)[1]["lr"].advice.startswith("10 times")


def test_all_linear_layers_are_advised_at_the_same_size(small):
    parameters, some = advice(small, ["q", "v"], 32)
    rank = int(some["targets"].advice.split("rank ")[1].split(",")[0])
    question = about_model(small, {})
    model = question.structure()
    same = cost(model, lk.plan(model, "all-linear", rank)).parameters
    assert same <= parameters < cost(model, lk.plan(model, "all-linear", rank + 1)).parameters
    assert "in the plan" in advice(small)[1]["targets"].advice


@pytest.mark.parametrize(
    ("said", "count"),
    [("24GB", 24e9), ("24 GiB", 24 * 2**30), ("1.5e3 MB", 1.5e9), ("4096", 4096)],
)
def test_sizes_in_words(said, count):
    assert bytes_of(said) == count


@pytest.mark.parametrize("said", ["", "GB", "0GB", "-3GB", "3 apples", "1e999999GB"])
def test_what_is_no_size(said):
    with pytest.raises(lk.LorakitError, match="24GB"):
        bytes_of(said)


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"model_type": "bert"}, "classification"), ({"model_type": "llama"}, "text"),
        ({"model_type": "t5"}, "seq2seq"), ({"model_type": "gpt2"}, "text"),
        ({"model_type": "bert", "architectures": ["BertForMaskedLM"]}, "classification"),
        ({"model_type": "llama", "architectures": ["LlamaForSequenceClassification"]},
         "classification"),
    ],
)  # fmt: skip
def test_the_task_of_a_model_is_that_of_its_kind(tmp_path, fields, kind):
    assert about_model(config_file(tmp_path, **fields), {}).recipe.task == kind


def test_rows_longer_than_the_base_can_place_are_refused(small):
    with pytest.raises(lk.LorakitError, match="can place 512"):
        about_model(small, {"data.max_length": 513})


def test_a_plan_is_text_and_json(small):
    found = outlook(about_model(small, {"data.max_length": 32}), Asked("1GB", False, 10))
    text, made = str(found), json.loads(json.dumps(found.as_dict()))
    assert "peak" in text
    assert "largest batch in 1.00 GB (as asked)" in text
    assert "320 completion tokens" in text
    adapter = made["memory"]["adapter"]
    assert adapter["peak"] == sum(v for k, v in adapter.items() if k not in ("peak", "flops"))
    assert made["largest_batch"]["adapter"] > made["largest_batch"]["full"] > 0
    assert yaml.safe_load(json.dumps(made))["batch"]["length"] == 32


@pytest.mark.parametrize("method", typing.get_args(Method))
def test_advice_is_given_for_low_ranks_alone(tmp_path, method):
    biased = config_file(
        tmp_path, model_type="gpt2", n_layer=2, n_embd=64, n_head=4, vocab_size=256,
        n_positions=64, attn_pdrop=0.0, resid_pdrop=0.0, embd_pdrop=0.0,
    )  # fmt: skip
    fields = {"method": method, **({"lora.rank": 1} if method in SIZED else {})}
    told = outlook(about_model(biased, fields), Asked(memory="1GB"))
    settings = {one.setting for one in told.advice}
    assert settings == ({"rank", "lr", "targets", "batch"} if method in LOW_RANK else set())
    assert ("advice" in str(told)) == (method in LOW_RANK)
