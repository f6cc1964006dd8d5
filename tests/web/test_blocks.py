"""The table of blocks shows every layer once, and clicks say which."""

from __future__ import annotations

import re

import pytest

import lorakit as lk
from families import CONFIGS, build
from lorakit.analysis.heatmap import Layout
from lorakit.models.roles import linear_paths
from lorakit.web.blocks import blocks_of, draw, toggled


@pytest.mark.parametrize("family", CONFIGS)
def test_every_layer_stands_in_one_cell(family):
    model = build(family)
    grid = blocks_of(model)
    assert sorted(grid.cells.values()) == sorted(linear_paths(model))
    assert sorted(grid.targets()) == sorted(
        path for column in grid.columns for path in grid.targets(column=column)
    )
    text = str(draw(grid, lk.plan(model, "all-linear", 4)))
    assert text.count('aria-pressed="true"') == len(grid.cells)


def test_roles_are_columns_and_blocks_are_rows():
    grid = blocks_of(build("llama"))
    assert grid.rows == ["model.layers.0", "model.layers.1"]
    assert grid.columns[:4] == ["q_proj", "k_proj", "v_proj", "o_proj"]
    path = "model.layers.1.self_attn.q_proj"
    assert grid.targets(row="model.layers.1", column="q_proj") == [path]


def test_clicks_put_layers_in_and_take_them_out():
    chosen = toggled({"a": 8}, ["a", "b"], 8)
    assert chosen == {"a": 8, "b": 8}
    assert toggled(chosen, ["a", "b"], 8) == {}
    assert toggled(chosen, ["a"], 4) == {"a": 4, "b": 8}


def test_names_of_layers_are_text():
    name = '"><script>alert(1)</script>'
    grid = Layout([name], [name], {(name, name): name})
    text = str(draw(grid, {name: 2}))
    assert "<script" not in text
    assert not re.search(r'="[^"]*<', text)
