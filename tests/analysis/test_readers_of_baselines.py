"""Adapters that are not low-rank are told apart by what reads adapters, and lose nothing."""

from __future__ import annotations

import pytest

import lorakit as lk
from families import build, randomise
from lorakit.core.errors import UnsupportedError


@pytest.fixture
def folders(tmp_path):
    found = {}
    for name, method, words in (
        ("houlsby", lk.Houlsby(), ["o", "down"]), ("prefix", lk.PrefixTuning(), "attentions"),
        ("top", lk.Top(), "top-1"), ("lora", lk.LoRA(), "attention"),
    ):  # fmt: skip
        model = build("gpt2")
        lk.inject(model, lk.plan(model, words, 2), method=method)
        randomise(model, "default")
        found[name] = lk.save(model, tmp_path / name)
    return found


def test_whole_modules_are_combined_and_not_resized(folders, tmp_path):
    assert lk.combine([folders["top"]], out=tmp_path / "same").errors == {}
    assert lk.inspect(tmp_path / "same").extras == lk.inspect(folders["top"]).extras
    with pytest.raises(UnsupportedError, match="top"):
        lk.resize(folders["top"], rank=1, out=tmp_path / "small")


@pytest.mark.parametrize("name", ["houlsby", "prefix"])
def test_what_is_for_factors_refuses(name, folders, tmp_path):
    for act in (
        lambda: lk.combine([folders[name]], out=tmp_path / "out"),
        lambda: lk.combine([folders["lora"], folders[name]], out=tmp_path / "out"),
        lambda: lk.resize(folders[name], rank=1, out=tmp_path / "out"),
    ):
        with pytest.raises(UnsupportedError, match=name):
            act()
    assert not (tmp_path / "out").exists()


def test_inspect_says_what_it_acts_on(folders):
    found = lk.inspect(folders["houlsby"])
    assert len(found.added) == 4
    assert "acts on" in str(found)
    assert "rank none" not in str(found)


def test_doctor_knows_that_no_other_tool_reads_it(folders):
    tools = lk.doctor(folders["houlsby"], build("gpt2"))
    assert tools.fits
    assert all(tools.tools.values())
    assert not lk.doctor(folders["lora"]).tools["PEFT"]


def test_diff_sees_what_was_added(folders):
    told = lk.diff(folders["houlsby"], folders["prefix"])
    assert len(told.only_first) == 4
    assert len(told.only_second) == 2
