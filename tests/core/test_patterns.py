from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorakit.core.patterns import is_glob, matches


@pytest.mark.parametrize(
    ("pattern", "path", "meant"),
    [
        ("q_proj", "model.layers.0.self_attn.q_proj", True),
        ("q_proj", "q_proj", True),
        ("proj", "model.q_proj", False),
        ("self_attn.q_proj", "model.layers.0.self_attn.q_proj", True),
        ("*.q_proj", "model.layers.0.self_attn.q_proj", True),
        ("*.q_proj", "q_proj", False),
        ("*.layers.0-3.*", "model.layers.3.mlp.up_proj", True),
        ("*.layers.0-3.*", "model.layers.13.mlp.up_proj", False),
        ("*.layers.20-31.*", "model.layers.25.mlp.up_proj", True),
        ("*.layers.20-*.*", "model.layers.19.mlp.up_proj", False),
        ("*.layers.20-*", "model.layers.25.mlp.up_proj", True),
        ("*.layers.20-*", "model.layers.19.mlp.up_proj", False),
        ("*.layers.20-*.*", "model.layers.120.mlp.up_proj", True),
        ("layers.?.mlp", "layers.7.mlp", True),
        ("layers.?.mlp", "layers.17.mlp", False),
        ("*", "anything.at.all", True),
        ("a.b", "axb", False),
        ("a+b", "a+b", True),
    ],
)
def test_what_a_pattern_means(pattern, path, meant):
    assert matches(pattern, path) is meant


paths = st.lists(st.sampled_from(["model", "layers", "0", "12", "q_proj", "a+b", "x"]), min_size=1)


@given(paths)
def test_a_path_means_itself_and_its_endings_mean_it(parts):
    path = ".".join(parts)
    for start in range(len(parts)):
        assert matches(".".join(parts[start:]), path)
    assert matches("*", path)


@pytest.mark.parametrize(("pattern", "glob"), [("q", False), ("*.q", True), ("layers.0-3", True)])
def test_is_glob(pattern, glob):
    assert is_glob(pattern) is glob
