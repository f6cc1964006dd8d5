from __future__ import annotations

import errno
import os
import threading
import time
from pathlib import Path

import pytest

import lorakit as lk
from families import build, randomise
from lorakit.core import folder as folders
from lorakit.core.folder import whole_folder
from lorakit.formats.files import read_folder
from lorakit.formats.manifest import read


def everything(path):
    return sorted(str(p.relative_to(path)) for p in path.rglob("*"))


def anything(_):
    return None


def fill(target, error: Exception) -> None:
    """Write a part and fail."""
    with whole_folder(target, anything) as partial:
        (partial / "a").write_text("1")
        raise error


def test_a_folder_appears_whole(tmp_path):
    with whole_folder(tmp_path / "deep" / "er" / "x", anything) as partial:
        (partial / "a").write_text("1")
        assert not (tmp_path / "deep" / "er" / "x").exists()
    assert everything(tmp_path) == ["deep", "deep/er", "deep/er/x", "deep/er/x/a"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "no space left"), ValueError("mine")])
def test_what_raises_leaves_the_old_folder_and_no_parents(tmp_path, error):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "old").write_text("kept")
    before = everything(tmp_path)
    kind = lk.LorakitError if isinstance(error, OSError) else ValueError
    for target in (tmp_path / "x", tmp_path / "new" / "y"):
        with pytest.raises(kind):
            fill(target, error)
        assert everything(tmp_path) == before


def test_without_an_exchange_by_the_system_it_still_replaces(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "_exchange", lambda one, other: False)
    for text in ("1", "2"):
        with whole_folder(tmp_path / "x", anything) as partial:
            (partial / text).write_text(text)
    assert everything(tmp_path) == ["x", "x/2"]


def test_leftovers_of_dead_processes_go_after_a_while(tmp_path):
    old, young = tmp_path / ".x.partial-1", tmp_path / ".x.partial-2"
    for left in (old, young):
        left.mkdir()
    long_ago = time.time() - folders.STALE_AFTER - 10
    os.utime(old, (long_ago, long_ago))
    with whole_folder(tmp_path / "x", anything):
        pass
    assert everything(tmp_path) == [".x.partial-2", "x"]


def test_a_reader_never_sees_half_an_adapter(tmp_path):
    """While one thread saves again and again, another always loads one save or the other."""
    model = build("llama")
    lk.inject(model, lk.plan(model, "q", 2), name="x")
    lk.save(model, tmp_path / "x")
    stop, failures, loads = threading.Event(), [], [0]

    def reader() -> None:
        other = build("llama")
        while not stop.is_set():
            try:
                lk.load(other, tmp_path / "x", name="x")
                lk.remove(other, "x")
                loads[0] += 1
            except lk.LorakitError as error:
                failures.append(str(error))

    thread = threading.Thread(target=reader)
    thread.start()
    for seed in range(30):
        randomise(model, "x", seed=seed)
        lk.save(model, tmp_path / "x")
    stop.set()
    thread.join()
    assert loads[0] > 0
    assert not failures


def test_a_reader_is_not_deceived_by_a_number_used_again(tmp_path, monkeypatch):
    """Two saves within one read may give the third folder the inode of the first."""
    model = build("llama")
    lk.inject(model, lk.plan(model, "q", 2), name="x")
    lk.save(model, tmp_path / "x")
    read_bytes, saves = Path.read_bytes, []

    def slow(path: Path) -> bytes:
        if len(saves) < 6 and path.name == "lorakit.json":
            for _ in range(2):
                saves.append(path)
                randomise(model, "x", seed=len(saves))
                monkeypatch.setattr(Path, "read_bytes", read_bytes)
                lk.save(model, tmp_path / "x")
                monkeypatch.setattr(Path, "read_bytes", slow)
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", slow)
    files, where = read_folder(tmp_path / "x")
    assert saves
    assert read(files, where) is not None


def test_saving_keeps_what_others_put_beside_an_adapter(tmp_path):
    model = build("llama")
    lk.inject(model, lk.plan(model, "q", 2), name="x")
    lk.save(model, tmp_path / "x")
    (tmp_path / "x" / "README.md").write_text("my notes")
    (tmp_path / "x" / "adapter_model.bin").write_bytes(b"stale")
    lk.save(model, tmp_path / "x")
    assert (tmp_path / "x" / "README.md").read_text() == "my notes"
    assert not (tmp_path / "x" / "adapter_model.bin").exists()


@pytest.mark.parametrize("name", ["thesis.docx", "sub/folder.txt", "data.csv"])
def test_saving_refuses_folders_with_other_content(tmp_path, name):
    model = build("llama")
    lk.inject(model, lk.plan(model, "q", 2), name="x")
    lk.save(model, tmp_path / "x")
    file = tmp_path / "x" / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("precious")
    before = everything(tmp_path)
    with pytest.raises(lk.LorakitError, match="not replaced"):
        lk.save(model, tmp_path / "x")
    assert everything(tmp_path) == before
