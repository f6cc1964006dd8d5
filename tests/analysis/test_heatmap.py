from __future__ import annotations

import math

import lorakit as lk
from families import build
from lorakit.analysis.heatmap import ELSEWHERE, grid


def test_blocks_are_rows_and_roles_are_columns():
    plan = lk.plan(build("llama"), ["all-linear", "embeddings", "head"], {"q": 5, "*": 2})
    table = grid(plan)
    assert table.rows == ["model.layers.0", "model.layers.1", ELSEWHERE]
    assert table.columns == [
        "embed_tokens", "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj",
        "down_proj", "lm_head",
    ]  # fmt: skip
    assert [row[1] for row in table.values][:2] == [5, 5]
    assert math.isnan(table.values[0][0])
    assert table.values[2][0] == table.values[2][-1] == 2
    held = [value for row in table.values for value in row if not math.isnan(value)]
    assert sorted(held) == sorted(plan.values())


def test_equal_ends_are_told_apart():
    values = {
        "encoder.block.0.layer.0.SelfAttention.q": 1, "decoder.block.0.layer.0.SelfAttention.q": 2,
        "decoder.block.0.layer.1.EncDecAttention.q": 3, "h.0.attn.c_attn:q": 4,
        "h.0.attn.c_attn:v": 5,
    }  # fmt: skip
    table = grid(values)
    assert table.rows == ["encoder.block.0", "decoder.block.0", "h.0"]
    assert table.columns == ["SelfAttention.q", "EncDecAttention.q", "c_attn:q", "c_attn:v"]
    assert table.values[1][:2] == [2, 3]


def test_layers_of_a_sequence_are_blocks_themselves():
    table = grid({"0": 3, "2": 0, "1:up": 4})
    assert (table.rows, table.columns) == (["0", "2", "1"], ["itself", "up"])
    assert table.values[0][0] == 3
    assert table.values[2] == [table.values[2][0], 4]
    assert grid({}).values == []


def test_a_column_that_is_the_end_of_another_keeps_its_name():
    assert grid({"x.0.lin": 1, "x.0.block.lin": 2}).columns == ["lin", "block.lin"]
