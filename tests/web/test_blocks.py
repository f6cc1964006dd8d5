"""The table of blocks shows every layer once, and clicks say which."""

from __future__ import annotations

import re

import pytest

import lorakit as lk
from families import CONFIGS, build
from lorakit.models.roles import linear_paths
from lorakit.web.blocks import Grid, draw, grid_of, toggled


@pytest.mark.parametrize("family", CONFIGS)
def test_every_layer_stands_in_one_cell(family):
    model = build(family)
    grid = grid_of(model)
    assert sorted(grid.cells.values()) == sorted(linear_paths(model))
    assert sorted(grid.paths()) == sorted(
        path for column in grid.columns for path in grid.paths(column=column)
    )
    text = str(draw(grid, lk.plan(model, "all-linear", 4)))
    assert text.count('aria-pressed="true"') == len(grid.cells)


def test_roles_are_columns_and_blocks_are_rows():
    grid = grid_of(build("llama"))
    assert grid.rows == ("0", "1")
    assert set(grid.columns) == {"q", "k", "v", "o", "gate", "up", "down"}
    assert grid.paths(row="1", column="q") == ["model.layers.1.self_attn.q_proj"]


def test_clicks_put_layers_in_and_take_them_out():
    chosen = toggled({"a": 8}, ["a", "b"], 8)
    assert chosen == {"a": 8, "b": 8}
    assert toggled(chosen, ["a", "b"], 8) == {}
    assert toggled(chosen, ["a"], 4) == {"a": 4, "b": 8}


def test_names_of_layers_are_text():
    name = '"><script>alert(1)</script>'
    grid = Grid((name,), (name,), {(name, name): name})
    text = str(draw(grid, {name: 2}))
    assert "<script" not in text
    assert not re.search(r'="[^"]*<', text)
