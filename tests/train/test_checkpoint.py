from __future__ import annotations

import pytest

from lorakit.core.errors import LorakitError
from lorakit.train import checkpoint


def make(run, step: int):
    folder = checkpoint.path_for(run, step)
    folder.mkdir(parents=True)
    (folder / "weights").write_text(f"of step {step}")
    (folder / "sub").mkdir()
    (folder / "sub" / "state").write_text("state")
    checkpoint.seal(folder)
    return folder


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "complete.json").unlink(),
        lambda folder: (folder / "complete.json").write_text("{"),
        lambda folder: (folder / "complete.json").write_text("[]"),
        lambda folder: (folder / "weights").unlink(),
        lambda folder: (folder / "weights").write_text("of step 3 and more"),
        lambda folder: (folder / "sub" / "state").write_text(""),
    ],
)
def test_a_torn_checkpoint_is_passed_over(tmp_path, damage):
    make(tmp_path, 2)
    torn = make(tmp_path, 10)
    damage(torn)
    found, passed = checkpoint.newest(tmp_path)
    assert found == checkpoint.path_for(tmp_path, 2)
    assert len(passed) == 1
    assert "checkpoint-10 is passed over" in passed[0]
    with pytest.raises(LorakitError, match="damaged"):
        checkpoint.require_whole(torn)


def test_where_there_is_none(tmp_path):
    assert checkpoint.newest(tmp_path / "nothing") == (None, [])
    (tmp_path / "checkpoint-x").mkdir()
    (tmp_path / ".checkpoint-3.partial-1").mkdir()
    assert checkpoint.newest(tmp_path) == (None, [])


def test_rotation_keeps_the_newest_and_the_best(tmp_path):
    for step in (2, 4, 6, 8, 10):
        make(tmp_path, step)
    checkpoint.rotate(tmp_path, keep=2, best=4)
    assert [checkpoint.step_of(path) for path in checkpoint.all_of(tmp_path)] == [10, 8, 4]
