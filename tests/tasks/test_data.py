"""Which rows are trained on and which are held out."""

from __future__ import annotations

import pytest

from lorakit.core.errors import DataError
from lorakit.tasks import make_task
from lorakit.tasks.data import read_data
from lorakit.tasks.options import DataOptions


def read(file, task: str = "text", **options):
    chosen = DataOptions(train=str(file), **options)
    return read_data(chosen, make_task(task, chosen), seed=0)


def test_the_end_of_a_single_text_is_held_out_by_lines(tmp_path):
    lines = [f"line {number}\n" for number in range(100)]
    (tmp_path / "text.txt").write_text("".join(lines))
    checked = read(tmp_path / "text.txt", eval_share=0.1)
    assert checked.train[0] + checked.eval[0] == "".join(lines)
    assert checked.eval[0].startswith("line ")
    assert 0.08 < len(checked.eval[0]) / len("".join(lines)) < 0.12


def test_a_text_of_one_line_is_cut_inside_of_it(tmp_path):
    (tmp_path / "text.txt").write_text("a" * 90 + "b" * 10)
    checked = read(tmp_path / "text.txt", eval_share=0.1)
    assert (checked.train, checked.eval) == (["a" * 90], ["b" * 10])


def test_a_text_too_short_to_share_says_what_to_do(tmp_path):
    (tmp_path / "text.txt").write_text("ab")
    with pytest.raises(DataError, match="leaves nothing"):
        read(tmp_path / "text.txt", eval_share=0.1)


def test_of_several_documents_whole_ones_are_held_out(tmp_path):
    (tmp_path / "rows.jsonl").write_text("".join(f'{{"text": "number {n}"}}\n' for n in range(20)))
    checked = read(tmp_path / "rows.jsonl", eval_share=0.1)
    assert len(checked.train) == 18
    assert sorted(checked.train + checked.eval) == sorted(f"number {n}" for n in range(20))
