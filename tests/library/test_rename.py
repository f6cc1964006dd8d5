"""Another name moves all that belongs to an adapter, and there and back is where it was."""

from __future__ import annotations

import dataclasses
import fcntl
import os
import shutil

import pytest
from shelves import kohya, tree

from lorakit.core.errors import AdapterNameError, LibraryError, OutsideError
from lorakit.library.moves import move_all, staged
from lorakit.library.read import read_entry
from lorakit.library.rename import rename


@pytest.mark.parametrize("what", ["poet", "run", "style"])
def test_there_and_back(what, request, root):
    place = request.getfixturevalue(what)
    (root / "style.md").write_text("---\ntags: [x]\n---\n")
    (root / "style.unrelated.txt").write_text("stays")
    before = tree(root)
    entry = read_entry(place, root=root)
    there = rename(entry, "Other name.v2")
    assert there.name == "Other name.v2"
    assert {k: v for k, v in there.as_dict().items() if k in ("ranks", "tags", "metrics")} == {
        k: v for k, v in entry.as_dict().items() if k in ("ranks", "tags", "metrics")
    }
    assert there.id != entry.id
    assert tree(root) != before
    assert (root / "style.unrelated.txt").exists()
    back = rename(there, entry.name)
    assert back == entry
    assert tree(root) == before


def test_what_is_called_after_a_file_goes_along(style, root):
    (root / "style.md").write_text("---\ntags: [x]\n---\n")
    entry = rename(read_entry(style, root=root), "axe")
    names = ["axe.md", "axe.preview.png", "axe.safetensors"]
    assert sorted(path.name for path in root.iterdir()) == names
    assert (entry.tags, entry.preview) == (("x",), str(root / "axe.preview.png"))


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b", ".x", "con", "x" * 101, "a\0", "taken"])
def test_bad_and_taken_names(name, poet, style, root):
    (root / "taken").mkdir()
    (root / "taken.preview.png").write_bytes(b"")
    before = tree(root)
    for place in (poet, style):
        with pytest.raises(AdapterNameError):
            rename(read_entry(place, root=root), name)
    assert tree(root) == before


def test_entries_that_are_gone_or_lie(poet, root, tmp_path):
    entry = read_entry(poet, root=root)
    outside = shutil.copytree(poet, tmp_path / "outside")
    lie = dataclasses.replace(entry, path=str(outside))
    with pytest.raises(OutsideError):
        rename(lie, "x")
    (root / "link").symlink_to(outside)
    with pytest.raises(OutsideError):
        rename(dataclasses.replace(entry, path=str(root / "link")), "x")
    shutil.rmtree(poet)
    with pytest.raises(LibraryError, match="not there"):
        rename(entry, "x")


def test_a_run_that_trains_stays(run, root):
    entry = read_entry(run, root=root)
    lock = os.open(run / ".lock", os.O_CREAT | os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        with pytest.raises(LibraryError, match="trains"):
            rename(entry, "x")
    finally:
        os.close(lock)
    assert rename(entry, "x").run == str(root / "runs" / "x")
    with pytest.raises(LibraryError, match="folder above"):
        rename(read_entry(root / "runs" / "x", root=root / "runs" / "x"), "y")


def test_moves_are_all_or_none(root):
    for name in "abc":
        (root / name).write_text(name)
    (root / "folder").mkdir()
    (root / "folder" / "taken").write_text("t")
    before = tree(root)
    moves = [(root / "a", root / "x"), (root / "folder", root / "y"), (root / "b", root / "c")]
    with pytest.raises(LibraryError, match="already"):
        move_all(moves)
    assert tree(root) == before
    with pytest.raises(LibraryError):
        move_all([(root / "a", root / "x"), (root / "nowhere", root / "z")])
    assert tree(root) == before
    move_all(moves[:2])
    assert sorted(tree(root)) == ["b", "c", "x", "y/taken"]


def test_an_interrupt_between_two_moves_is_undone(root, monkeypatch):
    kohya(root / "a.safetensors")
    before = tree(root)
    real = os.link
    calls = []

    def link(old, new):
        calls.append(old)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real(old, new)

    monkeypatch.setattr(os, "link", link)
    with pytest.raises(KeyboardInterrupt):
        rename(read_entry(root / "a.safetensors", root=root), "b")
    assert tree(root) == before


def test_a_stage_is_gone_at_the_end_and_old_ones_go(root):
    old = root / ".lorakit-stage-dead"
    old.mkdir()
    os.utime(old, (1, 1))
    with staged(root) as stage:
        assert sorted(root.iterdir()) == [stage]
    assert list(root.iterdir()) == []
