"""The index is what the folders say, found by words and filters, whatever becomes of its file."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shelves import kohya

from lorakit.core.errors import LibraryError
from lorakit.formats import files, manifest, peft_config
from lorakit.library import walk
from lorakit.library.index import Library, Refreshed
from lorakit.library.read import read_entry
from lorakit.library.rename import rename
from lorakit.library.store import FILE
from lorakit.library.trash import delete, restore


@pytest.fixture
def library(root, tmp_path):
    with Library(root, index=tmp_path / "index") as opened:
        yield opened


@pytest.fixture
def filled(library, poet, run, style, root):
    """Four adapters: a folder, a run's, a file, and a damaged one."""
    (poet / "README.md").write_text(
        "---\ntags: [verse, style]\nmodel_name: Crème 日本語 🔥\ndescription: of an old poet\n---\n"
    )
    shutil.copytree(poet, root / "deep" / "er" / "broken")
    (root / "deep" / "er" / "broken" / "adapter_model.safetensors").write_bytes(b"x")
    library.refresh()
    return library


ALL, POETS = ["broken", "e2e", "poet", "style"], ["broken", "poet"]


def names(entries):
    return sorted(entry.name for entry in entries)


def test_files_are_called_as_formats_have_them():
    assert (walk.CONFIG, walk.MANIFEST) == (peft_config.CONFIG, manifest.MANIFEST)
    assert (walk.TENSORS, walk.PICKLE) == (files.TENSORS, files.PICKLE)


def test_what_is_listed_is_what_is_read(filled, poet, run, style, root):
    found = filled.search(order="name")
    assert names(found) == ["broken", "e2e", "poet", "style"]
    places = [poet, run / "adapter", style, root / "deep" / "er" / "broken"]
    read = {place: read_entry(place, root=root) for place in places}
    assert {entry.id: entry for entry in found} == {e.id: e for e in read.values()}
    assert [bool(entry.problem) for entry in found if entry.name == "broken"] == [True]
    assert all(filled.find(entry.id) == entry for entry in found)
    with pytest.raises(LibraryError):
        filled.find("0" * 16)


def test_only_changes_are_read_again(filled, poet, run, root, monkeypatch):
    seen = []
    real = __import__("lorakit.library.read", fromlist=["look"]).look
    monkeypatch.setattr("lorakit.library.read.look", lambda *a: seen.append(a[0].name) or real(*a))
    assert filled.refresh() == Refreshed(0, 0, 0, 4)
    (run / "metrics.json").write_text('{"eval_loss": 1}')
    assert filled.refresh() == Refreshed(0, 1, 0, 4)
    assert seen == ["adapter"]
    (poet / "README.md").write_text("---\ntags: [new]\n---\n")
    assert filled.refresh() == Refreshed(0, 1, 0, 4)
    assert filled.search(tags=["new"]) == filled.search(tags=["new"], text="poet")
    shutil.rmtree(poet)
    kohya(root / "more.safetensors")
    assert filled.refresh() == Refreshed(1, 0, 1, 4)
    assert names(filled.search()) == ["broken", "e2e", "more", "style"]
    (root / "more.safetensors").write_bytes((root / "more.safetensors").read_bytes()[:-8] + b"0000")
    assert filled.refresh() == Refreshed(0, 1, 0, 4)


@pytest.mark.parametrize(("text", "expected"), [
    ("", ALL), ("poet", POETS), ("POE", POETS), ("creme", POETS), ("本語", POETS), ("🔥", POETS),
    ("kohya", ["style"]), ("base org", ["broken", "e2e", "poet"]), ("nothing", []),
    ("org/base", ["broken", "e2e", "poet"]), ('"poet" *', POETS), ("poet NOT", []),
    ("words: x", []), ("***", ALL), ("oet", []),
])  # fmt: skip
def test_search(filled, text, expected):
    assert names(filled.search(text)) == expected


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(text=st.text(max_size=30), tag=st.text(max_size=5))
def test_no_text_is_too_odd(filled, text, tag):
    found = filled.search(text, tags=[tag] if tag else [])
    assert {entry.id for entry in found} <= {entry.id for entry in filled.search()}
    filled.search(base=text, limit=1)
    with pytest.raises(LibraryError):
        filled.find(text)


@pytest.mark.parametrize(("text", "count"), [
    ("\ud800", 4), ('"' * 1000, 4), ("a\0b", 0), ("NEAR(a, b", 0), ("a" * 10**5, 0),
    ("poet " * 10**4, 2),
])  # fmt: skip
def test_odd_texts(filled, text, count):
    """What holds no word asks for nothing, and so leaves all."""
    assert len(filled.search(text)) == count


def test_filters_and_orders(filled):
    assert names(filled.search(format="kohya")) == ["style"]
    assert names(filled.search(task="chat", tags=["verse", "style"])) == ["broken", "poet"]
    assert filled.search(tags=["verse", "none"]) == []
    assert names(filled.search(base="org/base", method="lora")) == ["broken", "e2e", "poet"]
    by_size = [entry.bytes for entry in filled.search(order="size")]
    assert by_size == sorted(by_size, reverse=True)
    dates = [entry.date for entry in filled.search()]
    assert dates == sorted(dates, reverse=True)
    whole = filled.search(order="name")
    pages = [filled.search(order="name", limit=2, offset=n) for n in (0, 2, 4)]
    assert [entry for page in pages for entry in page] == whole
    for wrong in ({"order": "nmae"}, {"limit": -1}, {"offset": True}):
        with pytest.raises(LibraryError):
            filled.search(**wrong)


def test_answers_are_the_askers_own(filled):
    (entry,) = filled.search(text="e2e")
    entry.metrics.clear()
    assert filled.find(entry.id).metrics


def test_facets_count_what_is_found(filled):
    facets = filled.facets()
    for name in ("base", "task", "method", "format"):
        for value, count in facets[name].items():
            assert len(filled.search(**{name: value})) == count
    for tag, count in facets["tag"].items():
        assert len(filled.search(tags=[tag])) == count
    assert facets["format"] == {"peft": 3, "kohya": 1}


def test_people_pick_by_name_path_or_id(filled, poet, run, root):
    entry = filled.pick("poet")
    same = (entry.id, entry.id[:6], str(poet), f"{root}/../root/poet", "POET")
    assert all(filled.pick(word) == entry for word in same)
    assert filled.pick(str(run)) == filled.pick("e2e")
    for word, said in (
        ("Crème 日本語 🔥", "may be 2"),
        ("pot", "Did you mean 'poet'"),
        ("a\0", "no ada"),
    ):
        with pytest.raises(LibraryError, match=said):
            filled.pick(word)


def test_what_is_passed_over(library, poet, root, made, tmp_path):
    for place in (".hidden", "checkpoints/x", "a/.git/x", "__pycache__"):
        shutil.copytree(made, root / place)
    shutil.copytree(made, tmp_path / "outside")
    (root / "link").symlink_to(tmp_path / "outside")
    (root / "loop").symlink_to(root)
    kohya(tmp_path / "far.safetensors")
    (root / "far.safetensors").symlink_to(tmp_path / "far.safetensors")
    (root / ".x.safetensors").write_bytes(b"")
    os.mkfifo(root / "pipe.safetensors")
    model = root / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").write_bytes(b"damaged")
    kohya(model / "lora.safetensors")
    deep = root.joinpath(*"abcdefghij")
    shutil.copytree(made, deep)
    assert library.refresh() == Refreshed(2, 0, 0, 2, whole=False)
    assert names(library.search()) == ["lora", "poet"]
    assert library.refresh() == Refreshed(0, 0, 0, 2, whole=False)


def test_links_of_the_hubs_cache_are_followed(library, root, made):
    blobs, snapshot = root / "models--a--b" / "blobs", root / "models--a--b" / "snapshots" / "1"
    shutil.copytree(made, blobs)
    snapshot.mkdir(parents=True)
    for path in sorted(blobs.iterdir()):
        (snapshot / path.name).symlink_to(f"../../blobs/{path.name}")
    for path in sorted(blobs.iterdir()):
        new = path.rename(blobs / f"sha-{path.name}")
        (snapshot / path.name).unlink()
        (snapshot / path.name).symlink_to(f"../../blobs/{new.name}")
    library.refresh()
    (entry,) = [entry for entry in library.search() if not entry.problem]
    assert entry.path == str(snapshot)
    assert entry.ranks == (4,)


@pytest.mark.skipif(os.name == "nt", reason="names there are text")
def test_names_that_are_no_text(library, made, root):
    odd = os.fsdecode(os.fsencode(root) + b"/p\xff")
    shutil.copytree(made, odd)
    kohya(root / "x.safetensors").rename(f"{odd}.safetensors")
    assert library.refresh() == Refreshed(2, 0, 0, 2)
    assert {entry.path for entry in library.search("p")} == {odd, f"{odd}.safetensors"}
    assert library.refresh() == Refreshed(0, 0, 0, 2)
    entry = library.pick(odd)
    assert restore(delete(entry)) == entry
    assert rename(entry, "text").name == "text"


def test_several_roots_and_one_within_another(root, made, tmp_path):
    shutil.copytree(made, tmp_path / "other" / "one")
    shutil.copytree(made, root / "inner" / "two")
    roots = [root, tmp_path / "other", root / "inner"]
    with Library(roots, index=tmp_path / "index") as library:
        assert library.refresh().total == 2
        assert names(library.search()) == ["one", "two"]


def damaged(path):
    path.write_bytes(b"no database" * 1000)


def truncated(path):
    path.write_bytes(path.read_bytes()[:5000])


def older(path):
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 77")
    connection.close()


def without_a_table(path):
    connection = sqlite3.connect(path)
    connection.execute("DROP TABLE entries")
    connection.commit()
    connection.close()


DAMAGES = [damaged, truncated, older, without_a_table, lambda path: path.unlink()]


@pytest.mark.parametrize("damage", DAMAGES)
def test_an_index_is_made_again(damage, filled, root, tmp_path):
    before = filled.search(order="name")
    filled.close()
    for end in ("-wal", "-shm"):
        (tmp_path / "index" / f"{FILE}{end}").unlink(missing_ok=True)
    damage(tmp_path / "index" / FILE)
    with Library(root, index=tmp_path / "index") as again:
        again.refresh()
        assert again.search(order="name") == before
    damage(tmp_path / "index" / FILE)  # and under one that is in use
    if damage in (damaged, without_a_table, older):
        assert filled.search(order="name") == before


def test_the_usual_place_is_the_cache(root, poet, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with Library(root) as library:
        library.refresh()
    (place,) = (tmp_path / "cache" / "lorakit" / "library").iterdir()
    assert (place / FILE).exists()
    monkeypatch.setenv("XDG_CACHE_HOME", str(poet / "lorakit.json"))
    with pytest.raises(LibraryError, match="index"):
        Library(root)


def test_threads_ask_while_folders_change(filled, made, root):
    failures: list[BaseException] = []
    done = threading.Event()

    def ask():
        try:
            while not done.is_set():
                found = filled.search("poet", limit=10)
                assert {"poet", "broken"} <= {entry.name for entry in found}
                filled.facets()
                filled.refresh()
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(12):
        shutil.copytree(made, root / f"poet-{number}")
        if number % 2:
            shutil.rmtree(root / f"poet-{number - 1}")
    done.set()
    for thread in threads:
        thread.join()
    assert not failures
    filled.refresh()
    assert len(filled.search()) == 4 + 6


def test_two_processes_at_once(root, poet, made, tmp_path):
    for number in range(20):
        shutil.copytree(made, root / f"n{number}")
    code = (
        "import sys, time; from lorakit.library.index import Library\n"
        "library = Library(sys.argv[1], index=sys.argv[2])\n"
        "for _ in range(15): library.refresh(); n = len(library.search())\n"
        "print(n)"
    )
    command = [sys.executable, "-c", code, str(root), str(tmp_path / "index")]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate(timeout=100)[0].strip() for process in both] == ["21", "21"]
    assert [process.returncode for process in both] == [0, 0]


def test_three_hundred_adapters_and_fifty_runs(library, made, root):
    """Times are printed and not asserted: they are the machine's."""
    for number in range(300):
        shutil.copytree(made, root / f"shelf{number % 10}" / f"adapter-{number}")
    for number in range(50):
        shutil.copytree(made, root / "runs" / f"run-{number}" / "adapter")
        (root / "runs" / f"run-{number}" / "recipe.yaml").write_text("task: chat\n")
    times = []
    for act in (library.refresh, library.refresh, lambda: library.search("adapter 1", limit=50)):
        began = time.perf_counter()
        act()
        times.append(f"{(time.perf_counter() - began) * 1e3:.1f} ms")
    print("first, again, search:", *times)
    assert library.refresh() == Refreshed(0, 0, 0, 350)
    assert len(library.search("adapter")) == 300
    assert len(library.search("run")) == 50
