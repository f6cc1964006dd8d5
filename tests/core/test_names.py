from __future__ import annotations

import pytest

import lorakit as lk
from families import build

BAD = ["", " ", "a/b", "a\\b", "..", ".", "a\nb", "a\0b", "x" * 101, " padded", "tab\t", None, 7]
GOOD = [
    "french",
    "Van Gogh, late",
    "été",
    "日本",
    "lora",
    "a.b.c",
    "q_proj",
    "(.*)",
    "weight",
    "%s",
]


@pytest.mark.parametrize("name", BAD)
def test_names_that_are_refused(name):
    model = build("llama")
    with pytest.raises(lk.LorakitError):
        lk.inject(model, lk.plan(model, "q", 2), name=name)
    assert lk.adapters(model) == ()


@pytest.mark.parametrize("name", GOOD)
def test_names_are_labels_and_reach_no_path(name, tmp_path):
    model = build("llama")
    lk.inject(model, lk.plan(model, "q", 2), name=name)
    assert lk.adapters(model) == (name,)
    added = {key for key in model.state_dict() if ".lora." in key}
    assert {key.split(".lora.")[1] for key in added} == {"a0.low_rank.A", "a0.low_rank.B"}
    with lk.use(model, name):
        pass
    lk.save(model, tmp_path / "x", name=name)
    other = build("llama")
    lk.load(other, tmp_path / "x", name="some other name")
    lk.save(other, tmp_path / "y")
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "x" / file).read_bytes() == (tmp_path / "y" / file).read_bytes()
    lk.remove(model, name)


def test_upper_and_lower_case_count_as_the_same():
    model = build("llama")
    plan = lk.plan(model, "q", 2)
    lk.inject(model, plan, name="Straße")
    with pytest.raises(lk.LorakitError, match="already has"):
        lk.inject(model, plan, name="STRASSE")


def test_an_unknown_name_is_told_the_nearest():
    model = build("llama")
    lk.inject(model, lk.plan(model, "q", 2), name="french")
    with pytest.raises(lk.LorakitError, match="Did you mean 'french'"):
        lk.activate(model, "frnech")
