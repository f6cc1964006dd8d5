"""What people say of an adapter is kept beside it, and reads back as it was given."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shelves import tree

import lorakit as lk
from lorakit.core.errors import LibraryError
from lorakit.library.edit import edit
from lorakit.library.read import read_entry

SAID = {
    "title": "The Poet: № 1", "tags": ["verse", "#old", "yes", "1.0"],
    "triggers": ["in verse", "ode"], "description": "Writes verse - mostly.",
}  # fmt: skip


@pytest.mark.parametrize("what", ["poet", "run", "style"])
def test_what_is_set_is_read(what, request, root):
    place = request.getfixturevalue(what)
    entry = edit(read_entry(place, root=root), **SAID)
    assert (entry.title, list(entry.tags), list(entry.triggers), entry.description) == (
        SAID["title"], SAID["tags"], SAID["triggers"], SAID["description"]
    )  # fmt: skip
    assert entry == read_entry(place, root=root)
    entry = edit(entry, title="", triggers=[])
    assert (entry.title, entry.triggers) == ("", ())
    assert list(entry.tags) == SAID["tags"]
    if what == "style":
        assert (root / "style.md").exists()
        assert not (root / "README.md").exists()
    else:
        assert lk.inspect(entry.path).method == "lora"  # the page is no part of what is proved


def test_a_persons_page_stays(poet, root):
    page = "---\n# mine\nlicense: mit\ntags: [a]  # few\n---\n\n# My poet\n\nText\n"
    (poet / "README.md").write_text(page)
    entry = read_entry(poet, root=root)
    assert edit(entry, tags=["a"]).tags == ("a",)
    edit(entry, description="d")
    text = (poet / "README.md").read_text()
    assert text == page.replace("tags: [a]  # few\n", "tags:\n- a\ndescription: d\n")


def test_nothing_given_writes_nothing(poet, root):
    before = tree(root)
    entry = read_entry(poet, root=root)
    assert edit(entry) == entry
    assert edit(entry, title="", tags=[], description="") == entry
    assert tree(root) == before


BAD = [
    {"title": "a\nb\x00"}, {"title": "x" * 201}, {"title": "\u202eevil"}, {"title": "\ud800"},
    {"tags": "text"}, {"tags": ["a,b"]}, {"tags": ["x" * 201]}, {"tags": map(str, range(51))},
    {"triggers": ["a\x1bb"]}, {"description": "y" * 2001}, {"tags": [3]},
]  # fmt: skip


@pytest.mark.parametrize("given", BAD, ids=lambda given: next(iter(given)))
def test_what_would_not_read_back_is_refused(given, poet, root):
    before = tree(root)
    with pytest.raises(LibraryError):
        edit(read_entry(poet, root=root), **given)
    assert tree(root) == before


def test_pages_that_cannot_be_changed(poet, root):
    entry = read_entry(poet, root=root)
    page = poet / "README.md"
    for content in (b"---\ntags: [\n---\n", b"\xff\xfe", b"x" * 2**23):
        page.write_bytes(content)
        with pytest.raises(LibraryError):
            edit(entry, title="x")
        assert page.read_bytes() == content
    page.unlink()
    (root / "target").write_text("theirs")
    page.symlink_to(root / "target")
    with pytest.raises(LibraryError, match="plain file"):
        edit(entry, title="x")
    assert (root / "target").read_text() == "theirs"


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(title=st.text(max_size=30), tags=st.lists(st.text(max_size=8), max_size=4))
def test_any_text_is_kept_or_refused(poet, root, title, tags):
    entry = read_entry(poet, root=root)
    try:
        entry = edit(entry, title=title, tags=tags)
    except LibraryError:
        return
    assert entry.title == " ".join(title.split())
    assert list(entry.tags) == list(
        dict.fromkeys(filter(None, (" ".join(t.split()) for t in tags)))
    )
