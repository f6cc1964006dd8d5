"""Paths from a browser stay below the roots; the lists show bases and data alone."""

from __future__ import annotations

import json
import os

import pytest

from lorakit.core.errors import LorakitError
from lorakit.demo import base_folder
from lorakit.web.found import look
from lorakit.web.place import Place


def test_paths_below_the_roots_and_no_others(tmp_path):
    other = tmp_path / "data"
    other.mkdir()
    place = Place.of(tmp_path / "work", [other])
    assert place.inside(other / "a.jsonl") == other / "a.jsonl"
    assert place.inside(place.runs / "x" / ".." / "y") == place.runs / "y"
    assert place.short(other / "a.jsonl") == "a.jsonl"
    (other / "out").symlink_to("/etc")
    (other / "loop").symlink_to(other / "loop")
    for said in (
        "/etc/passwd", other / "out" / "passwd", other / ".." / "x", "..", "", "~root", "a\0b",
        str(tmp_path / "work2"), "x" * 100_000, other / "loop" / "x",
    ):  # fmt: skip
        with pytest.raises(LorakitError) as error:
            place.inside(said)
        assert len(str(error.value)) < 1000


def test_roots_that_are_no_folders(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LorakitError, match="no folder"):
        Place.of(tmp_path / "work", [tmp_path / "none"])
    with pytest.raises(LorakitError, match="no folder"):
        Place.of(tmp_path / "file")


def test_bases_and_data_are_found(tmp_path):
    base = tmp_path / "models" / "tiny"
    base.parent.mkdir()
    os.symlink(base_folder(), base)  # links are not followed: a loop would have no end
    assert look([tmp_path]).bases == ()
    assert look([base_folder()]).bases == (base_folder(),)
    for name in ("rows.jsonl", "b/rows.csv", ".hidden.csv", "b/checkpoints/x.json", "b/notes.md"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("a")
    run = tmp_path / "run"
    run.mkdir()
    for name in ("run.json", "rows.jsonl"):
        (run / name).write_text("{}")
    odd = tmp_path / "odd"
    odd.mkdir()
    (odd / "config.json").write_text(json.dumps(["no", "config"]))
    (odd / "model.safetensors").write_text("")
    found = look([tmp_path])
    assert found.bases == ()
    assert found.data == (tmp_path / "b/rows.csv", tmp_path / "rows.jsonl")
