"""What is deleted comes back to the byte, and nothing is ever put onto something else."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import shutil
from pathlib import Path

import pytest
from shelves import kohya, tree

from lorakit.core.errors import LibraryError, LorakitError, OutsideError
from lorakit.library.index import Library
from lorakit.library.read import read_entry
from lorakit.library.trash import delete, deleted, empty_trash, restore


@pytest.mark.parametrize("what", ["poet", "run", "style"])
@pytest.mark.parametrize("by_id", [False, True])
def test_restored_is_what_was_deleted(what, by_id, request, root):
    place = request.getfixturevalue(what)
    before = tree(root)
    entry = read_entry(place, root=root)
    gone = delete(entry)
    assert deleted([root]) == [gone]
    assert not Path(entry.path).exists()
    assert json.loads(json.dumps(gone.as_dict()))["name"] == entry.name
    with Library(root, index=root.parent / "index") as library:
        library.refresh()
        assert library.search() == []
    back = restore(gone.id, [root]) if by_id else restore(gone)
    assert back == entry
    assert tree(root) == before
    assert not (root / ".trash").exists()
    assert deleted([root]) == []


def test_a_run_loses_its_adapter_or_goes_as_a_whole(run, root):
    entry = read_entry(run, root=root)
    before = tree(run)
    gone = delete(entry)
    assert (run / "recipe.yaml").exists()
    assert restore(gone) == entry
    gone = delete(entry, whole_run=True)
    assert not run.exists()
    shutil.rmtree(run.parent)  # what it was in is made again
    assert restore(gone) == entry
    assert tree(run) == before


def test_whole_run_is_for_runs(poet, run, root):
    with pytest.raises(LibraryError, match="in no run"):
        delete(read_entry(poet, root=root), whole_run=True)
    with pytest.raises(LibraryError, match="in no run"):
        delete(read_entry(run, root=run), whole_run=True)  # the root itself
    lock = os.open(run / ".lock", os.O_CREAT | os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with pytest.raises(LibraryError, match="trains"):
        delete(read_entry(run, root=root))
    os.close(lock)
    assert not (root / ".trash").exists()


def test_all_that_is_called_after_a_file_goes(style, root):
    (root / "style.md").write_text("x")
    (root / "style.txt").write_text("stays")
    delete(read_entry(style, root=root))
    assert sorted(path.name for path in root.iterdir()) == [".trash", "style.txt"]


def test_nothing_is_replaced_on_the_way_back(style, root):
    entry = read_entry(style, root=root)
    gone = delete(entry)
    (root / "style.preview.png").write_bytes(b"new")
    before = tree(root)
    with pytest.raises(LibraryError, match="not replaced"):
        restore(gone)
    assert tree(root) == before
    (root / "style.preview.png").unlink()
    assert restore(gone) == entry
    with pytest.raises(LibraryError, match="trash"):
        restore(gone)


def test_a_delete_that_fails_leaves_all_as_it_was(style, root, monkeypatch):
    before = tree(root)
    real = os.link

    def link(old, new):
        if str(old).endswith(".safetensors"):
            raise OSError(28, "No space left on device")
        real(old, new)

    monkeypatch.setattr(os, "link", link)
    monkeypatch.setattr(os, "rename", _only_within(root, os.rename))
    with pytest.raises(LibraryError, match="No space"):
        delete(read_entry(style, root=root))
    assert tree(root) == before
    assert not (root / ".trash").exists()


def _only_within(root, real):
    """A rename as it is from one disk to another: into the trash it fails."""

    def rename(old, new):
        if ".trash" in str(new):
            raise OSError(28, "No space left on device")
        real(old, new)

    return rename


def test_entries_that_lie(poet, root, tmp_path):
    entry = read_entry(poet, root=root)
    outside = shutil.copytree(poet, tmp_path / "outside")
    for path in (str(outside), str(root), f"{root}/../outside", "/", ""):
        with pytest.raises(LorakitError):
            delete(dataclasses.replace(entry, path=path))
    assert (outside / "lorakit.json").exists()


HOSTILE = {
    "no JSON": "[[", "a list": "[]", "no names": '{"names": []}',
    "up": {"folder": "../.."}, "absolute": {"folder": "/etc"}, "path": {"path": "/etc/passwd"},
    "names": {"names": ["../../x"]}, "hidden way": {"names": ["a/../../b"]},
    "not there": {"names": ["other"]}, "kinds": {"names": "poet"}, "number": {"date": 3},
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE)
def test_records_that_lie_are_left_out(what, poet, root, tmp_path):
    gone = delete(read_entry(poet, root=root))
    path = gone.place / "record.json"
    change = HOSTILE[what]
    told = json.loads(path.read_text())
    path.write_text(change if isinstance(change, str) else json.dumps({**told, **change}))
    before = tree(tmp_path)
    assert deleted([root]) == []
    with pytest.raises(LibraryError):
        restore(gone)
    assert empty_trash([root]) == []
    assert tree(tmp_path) == before


def test_a_trash_that_is_a_link_is_no_trash(poet, root, tmp_path):
    gone = delete(read_entry(poet, root=root))
    shutil.move(root / ".trash", tmp_path / "elsewhere")
    (root / ".trash").symlink_to(tmp_path / "elsewhere")
    assert deleted([root]) == []
    with pytest.raises(LibraryError):
        restore(gone)


def test_the_trash_is_emptied_by_age(root, made):
    for name in "ab":
        shutil.copytree(made, root / name)
    old, new = (delete(read_entry(root / name, root=root)) for name in "ab")
    record = json.loads((old.place / "record.json").read_text())
    (old.place / "record.json").write_text(json.dumps({**record, "date": "2020-01-01T00:00:00Z"}))
    assert [own.name for own in deleted([root])] == ["b", "a"]
    assert [own.id for own in empty_trash([root], older_than_days=30)] == [old.id]
    assert [own.id for own in deleted([root])] == [new.id]
    with pytest.raises(LibraryError):
        empty_trash([root], older_than_days=-1)
    assert [own.id for own in empty_trash([root])] == [new.id]
    assert deleted([root]) == []


def test_a_root_that_is_an_adapter_is_not_moved(made, tmp_path):
    root = Path(shutil.copytree(made, tmp_path / "alone"))
    with Library(root, index=tmp_path / "index") as library:
        assert library.refresh().total == 1
        (entry,) = library.search()
    assert entry.path == entry.root == str(root)
    with pytest.raises(OutsideError):
        delete(entry)
    kohya(tmp_path / "x.safetensors")
    assert sorted(p.name for p in root.iterdir()) == sorted(p.name for p in made.iterdir())


@pytest.mark.parametrize("left", ["in the trash", "at its place"])
def test_a_move_that_was_killed_half_way_is_finished(left, style, root):
    entry = read_entry(style, root=root)
    gone = delete(entry)
    files = gone.place / "files"
    page = next(path for path in files.iterdir() if path.suffix != ".safetensors")
    weights = next(path for path in files.iterdir() if path.suffix == ".safetensors")
    moved = page if left == "in the trash" else weights
    moved.rename(Path(gone.root) / gone.folder / moved.name)
    (found,) = deleted([root])
    assert restore(found).path == entry.path
    assert {page.name, weights.name} <= {p.name for p in (Path(gone.root) / gone.folder).iterdir()}
    assert deleted([root]) == []


def test_nothing_is_moved_out_of_the_root(style, root, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (Path(root) / ".trash").symlink_to(elsewhere)
    with pytest.raises(LibraryError, match="is a link"):
        delete(read_entry(style, root=root))
    assert list(elsewhere.iterdir()) == []
