from __future__ import annotations

import json

import pytest
import torch
import transformers

import lorakit as lk
from families import CONFIGS, build, inputs, randomise
from test_laws import assert_same, snapshot

# What cannot be exported right is refused: BART ties its head to both embeddings in any case.
REFUSED = {("bart", "embeddings"), ("bart", "head")}


@pytest.mark.parametrize("family", CONFIGS)
@pytest.mark.parametrize("targets", ["all-linear", "embeddings", "head"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_plain_transformers_load_what_was_exported(family, targets, dtype, tmp_path):
    model = build(family, dtype=dtype)
    lk.inject(model, lk.plan(model, targets, 4), name="x")
    randomise(model, "x", scale=0.05)
    before = snapshot(model)
    if (family, targets) in REFUSED:
        with pytest.raises(lk.LorakitError, match="ties"):
            lk.export_merged(model, tmp_path / "out")
        assert not list(tmp_path.iterdir())
    else:
        report = lk.export_merged(model, tmp_path / "out")
        plain = type(model).from_pretrained(tmp_path / "out", dtype="auto").eval()
        batch = inputs(model)
        with torch.no_grad(), lk.merged(model, "x"):
            assert torch.equal(plain(**batch).logits, model(**batch).logits)
        assert report.error is not None
        assert report.error < 20 * torch.finfo(dtype).eps
    assert_same(before, snapshot(model))


def test_a_head_that_was_tied_is_written_apart(tmp_path):
    model = build("llama-tied")
    lk.inject(model, lk.plan(model, "embeddings", 4), name="x")
    randomise(model, "x")
    lk.export_merged(model, tmp_path / "out")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["tie_word_embeddings"] is False
    assert model.config.tie_word_embeddings is True
    plain = type(model).from_pretrained(tmp_path / "out")
    assert not torch.equal(plain.lm_head.weight, plain.model.embed_tokens.weight)


def test_the_same_adapter_is_merged_once(tmp_path):
    model = build("llama")
    lk.inject(model, lk.plan(model, "q", 4), name="x")
    randomise(model, "x")
    lk.save(model, tmp_path / "x")
    (tmp_path / "x" / "lorakit.json").unlink()  # as a folder of PEFT has none
    lk.export_merged(model, tmp_path / "out")
    plain = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    with pytest.raises(lk.LorakitError, match="already merged"):
        lk.load(plain, tmp_path / "x")
    lk.inject(plain, lk.plan(plain, "q", 4), name="y")
    randomise(plain, "y", seed=9)
    lk.export_merged(plain, tmp_path / "both")
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "both")
    assert len(again.config.lorakit_merged) == 2
    with pytest.raises(lk.LorakitError, match="already merged"):
        lk.load(again, tmp_path / "x")


def test_several_adapters_and_a_trained_head(tmp_path):
    model = build("bert", head="classes")
    lk.inject(model, lk.plan(model, "q", 2), name="head", method=lk.LoRA(extras=("classifier",)))
    lk.inject(model, lk.plan(model, "v", 2), name="style")
    for name in ("head", "style"):
        randomise(model, name)
    lk.export_merged(model, tmp_path / "out", name=["head", "style"])
    plain = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").eval()
    with torch.no_grad(), lk.use(model, "head", "style"):
        expected = model(**inputs(model)).logits
        torch.testing.assert_close(plain(**inputs(model)).logits, expected)


def test_what_cannot_be_exported(tmp_path):
    model = torch.nn.Sequential(torch.nn.Linear(4, 4))
    lk.inject(model, {"0": 2}, name="x")
    with pytest.raises(lk.LorakitError, match="no transformers model"):
        lk.export_merged(model, tmp_path / "out")
    model = build("llama")
    lk.inject(model, lk.plan(model, "q", 2), name="x")
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.txt").write_text("years")
    with pytest.raises(lk.LorakitError, match="not empty"):
        lk.export_merged(model, tmp_path / "work")
    lk.inject(model, lk.plan(model, "q", 2), name="y")
    with pytest.raises(lk.LorakitError, match="Which adapter"):
        lk.export_merged(model, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["thesis.txt", "work"]
