"""Nothing outside the roots is ever a place to write."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorakit.core.errors import LibraryError, LorakitError, OutsideError
from lorakit.library.roots import checked_roots, inside


@pytest.fixture
def outside(tmp_path, root):
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "secret").write_text("x")
    (root / "out").symlink_to(folder)
    (root / "file").symlink_to(folder / "secret")
    (root / "in").mkdir()
    (root / "back").symlink_to(root / "in")
    return folder


BAD = ["..", ".", "", "../outside", "in/../../outside", "in/..", "out/secret", "out/new", "file",
       "a\0b", "/etc/passwd", "/"]  # fmt: skip


@pytest.mark.parametrize("path", BAD)
def test_what_leads_out_is_refused(path, outside, root):
    with pytest.raises(OutsideError):
        inside([root], path)
    with pytest.raises(OutsideError):
        inside([root], os.path.join(root, path))


def test_what_is_below_is_found(outside, root):
    assert inside([root], "in/new") == root / "in" / "new"
    assert inside([root], root / "back" / "new") == root / "in" / "new"
    assert inside([root], root / "back") == root / "back"
    assert inside([outside, root], root / "in") == root / "in"
    with pytest.raises(OutsideError):
        inside([root], root)
    with pytest.raises(OutsideError):
        inside([], "in")
    with pytest.raises(OutsideError):
        inside([root / "in"], root / "inside")  # begins alike, and is another folder


@settings(max_examples=200, deadline=None)
@given(path=st.text(max_size=30))
def test_any_text_is_below_or_refused(path, tmp_path_factory):
    root = tmp_path_factory.getbasetemp()
    try:
        found = inside([root], path)
    except LorakitError:
        return
    assert root in found.parents
    assert root in found.resolve().parents


def test_roots_are_folders(root, tmp_path):
    assert checked_roots([root, f"{root}/../root"]) == (root,)
    for bad in ([], [tmp_path / "nowhere"], ["a\0b"]):
        with pytest.raises(LibraryError):
            checked_roots(bad)
