"""combine, resize and diff: adapters as sums of their changes."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lorakit as lk
from families import build, inputs, randomise
from lorakit.analysis.factored import Spectrum, overlap
from lorakit.analysis.resize import budgeted
from lorakit.core.errors import BaseMismatchError, PlanError, UnsupportedError
from lorakit.formats.load import read_adapter

METHODS = {
    "lora": lk.LoRA(alpha=6),
    "rslora": lk.LoRA(alpha=6, rslora=True),
    "biases": lk.LoRA(alpha=6, bias="all"),
    "new head": lk.LoRA(alpha=6, extras=("classifier",)),
    "dora": lk.DoRA(alpha=6),
    "lora-fa": lk.LoRAFA(alpha=6),
    "pissa": lk.LoRA(alpha=6, init="pissa"),
}


def made(folder, *, seed=0, rank=3, targets=("q", "v"), family="bert", method=METHODS["lora"]):
    model = build(family, head="classes")
    lk.inject(model, lk.plan(model, list(targets), rank), method=method)
    randomise(model, "default", seed=seed)
    lk.save(model, folder)
    return folder


def changes(folder) -> dict[str, torch.Tensor]:
    state = read_adapter(folder)
    return {p: state.scale(x) * x.B.double() @ x.A.double() for p, x in state.low_rank.items()}


def logits(folder, family="bert") -> torch.Tensor:
    model = build(family, head="classes")
    lk.load(model, folder)
    with torch.no_grad():
        return model(**inputs(model)).logits


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())
def test_one_adapter_with_weight_one_is_itself(method, tmp_path):
    source = made(tmp_path / "a", method=method)
    report = lk.combine([source], weights=[1.0], out=tmp_path / "b")
    assert report.largest == 0
    assert torch.equal(logits(tmp_path / "a"), logits(tmp_path / "b"))
    assert lk.diff(source, tmp_path / "b").same


def test_two_adapters_of_unlike_ranks_scales_and_places_add_up(tmp_path):
    first = made(tmp_path / "a", rank=3)
    second = made(
        tmp_path / "b", seed=1, rank={"*.0.*": 5, "*": 2}, targets=("q", "o"),
        method=METHODS["rslora"],
    )  # fmt: skip
    report = lk.combine([first, second], weights=[0.7, -0.3], out=tmp_path / "ab")
    one, two, both = changes(first), changes(second), changes(tmp_path / "ab")
    assert both.keys() == one.keys() | two.keys()
    for path, delta in both.items():
        expected = 0.7 * one.get(path, torch.zeros(())) - 0.3 * two.get(path, torch.zeros(()))
        assert (delta - expected).norm() <= 1e-6 * expected.norm()
    assert report.ranks["bert.encoder.layer.0.attention.self.query"] == 8

    model = build("bert", head="classes")
    for folder, name in ((first, "one"), (second, "two")):
        lk.load(model, folder, name=name)
    with lk.use(model, "one", "two"), torch.no_grad():
        expected = model(**inputs(model)).logits
    lk.combine([first, second], out=tmp_path / "sum")
    torch.testing.assert_close(logits(tmp_path / "sum"), expected)


def test_svd_is_the_nearest_of_its_rank_and_says_how_near(tmp_path):
    first, second = made(tmp_path / "a"), made(tmp_path / "b", seed=1)
    report = lk.combine([first, second], how="svd", rank=2, out=tmp_path / "ab")
    one, two, both = changes(first), changes(second), changes(tmp_path / "ab")
    for path, delta in both.items():
        values = torch.linalg.svdvals(one[path] + two[path])
        expected = float(values[2:].norm() / values.norm())
        assert report.errors[path] == pytest.approx(expected, rel=1e-4)
        gap = (delta - one[path] - two[path]).norm() / values.norm()
        assert float(gap) == pytest.approx(expected, rel=1e-4)
        assert torch.linalg.matrix_rank(delta) == 2
    whole = lk.combine([first, second], how="svd", out=tmp_path / "whole")
    assert whole.largest < 1e-6


def test_ties_and_dare_are_their_papers_rules(tmp_path):
    first, second = made(tmp_path / "a"), made(tmp_path / "b", seed=1)
    one, two = changes(first), changes(second)
    lk.combine([first, second], how="ties", density=1.0, rank=32, out=tmp_path / "ties")
    for path, delta in changes(tmp_path / "ties").items():
        pair = torch.stack([one[path], two[path]])
        agree = pair.sign() == pair.sum(0).sign()
        expected = (pair * agree).sum(0) / agree.sum(0)
        torch.testing.assert_close(delta, expected, rtol=1e-4, atol=1e-5)
    lk.combine([first, second], how="ties", density=0.1, rank=32, out=tmp_path / "sparse")
    for path, delta in changes(tmp_path / "sparse").items():
        small = one[path].abs() < one[path].abs().quantile(0.9)
        small &= two[path].abs() < two[path].abs().quantile(0.9)
        assert delta[small].abs().max() < 1e-5
    sums = []
    for seed in range(40):
        folder = tmp_path / f"dare{seed}"
        lk.combine([first, second], how="dare", density=0.5, rank=32, seed=seed, out=folder)
        sums.append(changes(folder))
    for path in one:
        mean = torch.stack([found[path] for found in sums]).mean(0)
        expected = one[path] + two[path]
        assert (mean - expected).norm() < 0.3 * expected.norm()
    assert not torch.equal(sums[0][path], sums[1][path])


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"how": "linear"}, PlanError, "known are exact"),
        ({"weights": [1.0]}, PlanError, "2 adapters and 1 weights"),
        ({"rank": 3}, PlanError, "rank goes with"),
        ({"how": "svd", "rank": 0}, PlanError, "at least 1"),
        ({"how": "ties", "density": 0.0}, PlanError, "density"),
    ],
)
def test_what_combine_refuses(kwargs, error, message, tmp_path):
    pair = [made(tmp_path / "a"), made(tmp_path / "b", seed=1)]
    with pytest.raises(error, match=message):
        lk.combine(pair, out=tmp_path / "c", **kwargs)
    assert not (tmp_path / "c").exists()


def test_what_cannot_be_added_up_is_refused_by_type(tmp_path):
    plain = made(tmp_path / "a")
    cases = {
        "dora": (made(tmp_path / "b", method=METHODS["dora"]), UnsupportedError, "DoRA"),
        "head": (made(tmp_path / "c", method=METHODS["new head"]), UnsupportedError, "in full"),
    }
    for other, error, message in cases.values():
        with pytest.raises(error, match=message):
            lk.combine([plain, other], weights=[1.0, 0.5], out=tmp_path / "x")
    torch.manual_seed(5)
    model = build("bert", seed=3, head="classes")
    lk.inject(model, lk.plan(model, ["q"], 2))
    lk.save(model, tmp_path / "other")
    with pytest.raises(BaseMismatchError, match="different bases"):
        lk.combine([plain, tmp_path / "other"], out=tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_resize_by_rank_energy_and_budget(tmp_path):
    source = made(tmp_path / "a", rank=6, targets=("attention", "mlp"))
    whole = changes(source)
    by_rank = lk.resize(source, rank=2, out=tmp_path / "rank")
    assert set(by_rank.ranks.values()) == {2}
    by_energy = lk.resize(source, energy=0.8, out=tmp_path / "energy")
    for path, delta in changes(tmp_path / "energy").items():
        error = float((delta - whole[path]).norm() / whole[path].norm())
        assert error == pytest.approx(by_energy.errors[path], abs=1e-6)
        assert error <= (1 - 0.8) ** 0.5 + 1e-6
        values = torch.linalg.svdvals(whole[path])
        one_less = float(values[by_energy.ranks[path] - 1 :].norm() / values.norm())
        assert one_less > (1 - 0.8) ** 0.5
    budget = by_rank.parameters
    by_budget = lk.resize(source, params=budget, out=tmp_path / "budget")
    assert by_budget.parameters <= budget
    gaps = [
        sum(float((changes(tmp_path / f)[p] - whole[p]).square().sum()) for p in whole)
        for f in ("rank", "budget")
    ]
    assert gaps[1] <= gaps[0]
    exact = lk.resize(source, energy=1.0, out=tmp_path / "exact")
    assert exact.largest < 1e-6
    assert exact.ranks == exact.before


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({}, "Give one of"),
        ({"rank": 2, "energy": 0.5}, "Give one of"),
        ({"rank": 0}, "at least 1"),
        ({"energy": 1.5}, "share above 0"),
        ({"params": 5}, "too small"),
    ],
)
def test_what_resize_refuses(kwargs, message, tmp_path):
    with pytest.raises(PlanError, match=message):
        lk.resize(made(tmp_path / "a"), out=tmp_path / "b", **kwargs)
    assert not (tmp_path / "b").exists()


def test_diff_tells_places_sizes_and_directions(tmp_path):
    first = made(tmp_path / "a", targets=("q", "v"))
    second = made(tmp_path / "b", seed=1, targets=("q", "o"), rank=5)
    found = lk.diff(first, second)
    assert not found.same
    assert all(".value" in path for path in found.only_first)
    assert all(".dense" in path for path in found.only_second)
    one, two = changes(first), changes(second)
    for pair in found.shared:
        assert pair.ranks == (3, 5)
        gap = (two[pair.path] - one[pair.path]).norm() / one[pair.path].norm()
        assert pair.distance == pytest.approx(float(gap), rel=1e-6)
        assert 0 < pair.inputs < 1
    assert "|b-a|/|a|" in str(found)
    assert json.dumps(found.as_dict())
    double = lk.combine([first], weights=[2.0], out=tmp_path / "double").folder
    for pair in lk.diff(first, double).shared:
        assert pair.distance == pytest.approx(1, rel=1e-6)
        assert pair.inputs == pytest.approx(1)
        assert pair.outputs == pytest.approx(1)
    assert lk.diff(first, first).same
    assert "the same change" in str(lk.diff(first, first))


@settings(max_examples=50, deadline=None)
@given(
    rank=st.integers(1, 12), rows=st.integers(1, 9), columns=st.integers(1, 9),
    cut=st.integers(1, 12), seed=st.integers(0, 10**6),
)  # fmt: skip
def test_a_spectrum_of_factors_is_that_of_their_product(rank, rows, columns, cut, seed):
    generator = torch.Generator().manual_seed(seed)
    A = torch.randn(rank, columns, generator=generator)
    B = torch.randn(rows, rank, generator=generator)
    spectrum, dense = Spectrum.of(A, B), torch.linalg.svdvals(B.double() @ A.double())
    size = min(len(dense), len(spectrum.S))
    torch.testing.assert_close(spectrum.S[:size], dense[:size], rtol=1e-8, atol=1e-8)
    small, large, error = spectrum.cut(cut)
    kept = dense[min(cut, len(dense)) :].norm() / dense.norm()
    assert error == pytest.approx(float(kept), abs=1e-8)
    gap = (large.double() @ small.double() - B.double() @ A.double()).norm() / dense.norm()
    assert float(gap) == pytest.approx(error, abs=1e-5)
    assert budgeted({"x": spectrum}, (rows + columns) * cut)["x"] <= cut


def test_overlap_is_zero_for_strangers_and_one_inside():
    space = torch.linalg.qr(torch.randn(9, 5, dtype=torch.float64)).Q
    assert overlap(space[:, :2], space[:, 2:5]) == pytest.approx(0, abs=1e-12)
    assert overlap(space[:, :2], space) == pytest.approx(1)


def test_diff_sees_what_is_no_factor(tmp_path):
    for name, method in (("dora", METHODS["dora"]), ("head", METHODS["new head"])):
        first = made(tmp_path / name, method=method)
        model = build("bert", head="classes")
        lk.load(model, first, trainable=True)
        with torch.no_grad():
            for key, parameter in model.named_parameters():
                if "magnitude" in key or "replacement" in key:
                    parameter.mul_(3)
        lk.save(model, tmp_path / f"{name}2")
        found = lk.diff(first, tmp_path / f"{name}2")
        assert not found.same
        assert found.changed
        assert "other values" in str(found)


def test_combined_biases_can_be_loaded(tmp_path):
    plain = made(tmp_path / "a")
    biased = made(tmp_path / "b", seed=1, method=lk.LoRA(alpha=6, bias="lora_only"))
    for number, pair in enumerate([(plain, biased), (biased, plain)]):
        lk.combine(pair, out=tmp_path / f"c{number}")
    torch.testing.assert_close(logits(tmp_path / "c0"), logits(tmp_path / "c1"))
    with pytest.raises(PlanError, match="finite"):
        lk.combine([plain, biased], weights=[float("nan"), 1], out=tmp_path / "d")


def test_a_fresh_anchored_adapter_has_no_size_on_a_model():
    model = build("bert", head="classes")
    lk.inject(model, lk.plan(model, ["q"], 3), method=METHODS["pissa"])
    assert all(layer.norm < 1e-6 for layer in lk.inspect(model)[0].layers)
