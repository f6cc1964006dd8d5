"""Singular values are those of the dense change."""

from __future__ import annotations

import pytest
import torch

import lorakit as lk
from families import adapter
from lorakit.analysis.spectra import singular_values
from lorakit.core.errors import AdapterFileError
from lorakit.formats.load import read_adapter


def test_they_are_those_of_the_change(tmp_path):
    adapter(tmp_path / "a", "llama", method=lk.LoRA(alpha=6), rank=3)
    state = read_adapter(tmp_path / "a")
    found = singular_values(tmp_path / "a")
    assert found.keys() == state.low_rank.keys()
    for path, low in state.low_rank.items():
        change = 2.0 * low.B.double() @ low.A.double()
        expected = torch.linalg.svdvals(change)[:3].tolist()
        assert found[path] == pytest.approx(expected)
    largest = list(singular_values(tmp_path / "a", layers=2))
    assert largest == sorted(found, key=lambda path: -found[path][0])[:2]


def test_what_is_no_adapter(tmp_path):
    with pytest.raises(AdapterFileError):
        singular_values(tmp_path)
