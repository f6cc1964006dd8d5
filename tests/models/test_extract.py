"""An adapter out of a full fine-tune: exact where the rank allows it, else with its error told."""

from __future__ import annotations

import pytest
import torch

import lorakit as lk
from families import build, inputs, randomise
from lorakit.core.errors import BaseMismatchError, ModelError, PlanError, UnsupportedError


def tuned(family: str, noise: float = 0.02, *, only: str = ""):
    model = build(family)
    generator = torch.Generator().manual_seed(3)
    for name, parameter in model.named_parameters():
        if only in name:
            parameter.data += noise * torch.randn(parameter.shape, generator=generator)
    return model


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model(**inputs(model)).logits


@pytest.mark.parametrize("family", ["llama", "llama-tied", "gpt2", "t5", "resnet", "regnet"])
@pytest.mark.parametrize("on_disk", [False, True])
def test_all_of_the_energy_is_the_fine_tune_itself(family, on_disk, tmp_path):
    base, other = build(family), tuned(family)
    pair = (base, other)
    if on_disk:
        for name, model in (("base", base), ("other", other)):
            model.save_pretrained(tmp_path / name, max_shard_size="20KB")
        pair = (tmp_path / "base", tmp_path / "other")
    drop = family in ("resnet", "regnet")  # batch norms, and running statistics
    made = lk.extract(*pair, energy=1.0, drop=drop, out=tmp_path / "a")
    assert made.largest < 1e-6
    again = build(family)
    lk.load(again, tmp_path / "a")
    assert bool(made.dropped) == drop
    for name in made.dropped:
        again.get_parameter(name).data = other.get_parameter(name).data
    torch.testing.assert_close(logits(again), logits(other), rtol=1e-3, atol=1e-4)


def test_what_was_an_adapter_comes_back_at_its_rank(tmp_path):
    base, merged = build("llama"), build("llama")
    lk.inject(merged, lk.plan(merged, ["q", "down", "norms"], 3))
    randomise(merged, "default")
    expected = logits(merged)
    lk.merge(merged)
    made = lk.extract(base, merged, rank=3, out=tmp_path / "a")
    assert made.largest < 1e-4
    assert set(made.ranks.values()) == {3}
    assert len(made.whole) == 5
    again = build("llama")
    lk.load(again, tmp_path / "a")
    torch.testing.assert_close(logits(again), expected, rtol=1e-4, atol=1e-4)


def test_sizes_and_errors(tmp_path):
    base, other = build("llama"), tuned("llama", only="proj")
    small = lk.extract(base, other, rank=2, out=tmp_path / "rank")
    for path, error in small.errors.items():
        change = (other.get_submodule(path).weight - base.get_submodule(path).weight).detach()
        values = torch.linalg.svdvals(change.double())
        assert error == pytest.approx(float(values[2:].norm() / values.norm()), rel=1e-5)
    budget = lk.extract(base, other, params=small.parameters, out=tmp_path / "params")
    assert budget.parameters <= small.parameters
    assert "largest relative error" in str(budget)
    assert sum(budget.ranks.values()) > len(budget.ranks)


def test_what_extract_refuses(tmp_path):
    base = build("llama")
    with pytest.raises(PlanError, match="Give one of"):
        lk.extract(base, base, out=tmp_path / "a")
    with pytest.raises(BaseMismatchError, match="same tensors"):
        lk.extract(base, build("qwen2"), rank=2, out=tmp_path / "a")
    with pytest.raises(UnsupportedError, match="drop=True"):
        lk.extract(build("resnet"), tuned("resnet"), rank=2, out=tmp_path / "a")
    base.save_pretrained(tmp_path / "base")
    build("llama", head="classes").save_pretrained(tmp_path / "classes")
    with pytest.raises(BaseMismatchError, match=r"lm_head.weight, score.weight"):
        lk.extract(tmp_path / "base", tmp_path / "classes", rank=2, out=tmp_path / "a")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="no weights"):
        lk.extract(tmp_path / "base", tmp_path / "empty", rank=2, out=tmp_path / "a")
    assert not (tmp_path / "a").exists()
