"""Names of folders and files are good on every system, and free names are free."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorakit.core.errors import AdapterNameError
from lorakit.library.names import check_file_name, check_free, free_name, usable

BAD = ["", " ", ".", "..", ".hidden", "a/b", "a\\b", "a\0b", "a\nb", "x" * 101, "語" * 80, "CON",
       "nul.txt", "lpt1", "a:b", "a?", "a*", 'a"', "end.", " a", "adapter", "Checkpoints",
       "\u202eb", None, 3]  # fmt: skip


@pytest.mark.parametrize("name", BAD, ids=repr)
def test_bad_names(name):
    with pytest.raises(AdapterNameError):
        check_file_name(name)


@pytest.mark.parametrize("name", ["poet", "e2e r=8", "Crème-2.1", "日本語", "a" * 100, "con-2"])
def test_good_names(name):
    assert check_file_name(name) == name


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=150))
def test_a_usable_name_is_a_good_one(name):
    assert check_file_name(usable(name))


def test_a_taken_name_comes_with_a_free_one(root):
    for name in ("poet", "poet-2"):
        (root / name).mkdir()
    (root / "poet-3").symlink_to("nowhere")
    assert free_name(root, "poet") == "poet-4"
    with pytest.raises(AdapterNameError, match="'poet-4' is free"):
        check_free(root, "poet")
    check_free(root, "other")
    (root / "other.md").write_text("")
    with pytest.raises(AdapterNameError):
        check_free(root, "other", (".safetensors", ".md"))
