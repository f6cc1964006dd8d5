"""A change of front matter reaches the keys that it sets, and no other byte."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from lorakit.core.errors import LibraryError
from lorakit.library.front import split

PAGE = """---
# what a person wrote
license: apache-2.0   # ours
tags:
- verse

# a note on the next key
- "old: one"
widget:
  - text: "a: b"
    output: {text: c}
notes: |
  tags: [not, these]

  more
model_name: 'Poet'
---

# Poet

---
tags: [in the body]
---
"""


def test_other_bytes_stay():
    page = split(PAGE).changed({"tags": ["new", "ä: b"], "model_name": None, "extra": "x"})
    assert page.values()["tags"] == ["new", "ä: b"]
    expected = PAGE.replace("tags:\n- verse\n\n# a note on the next key\n- \"old: one\"\n",
                            "tags:\n- new\n- 'ä: b'\n", 1)  # fmt: skip
    expected = expected.replace("model_name: 'Poet'\n", "extra: x\n")
    assert page.text == expected
    assert split(PAGE).changed({}).text == PAGE


def test_there_and_back():
    page = split(PAGE)
    there = page.changed({"notes": "short", "description": "a\u2028b"})
    assert there.values()["notes"] == "short"
    back = there.changed({"notes": page.values()["notes"], "description": None})
    assert back.values() == page.values()
    assert back.body == page.body


@pytest.mark.parametrize(("text", "expected"), [
    ("", "---\ntags:\n- a\n---\n"),
    ("# Body\n", "---\ntags:\n- a\n---\n\n# Body\n"),
    ("---\n---\n", "---\ntags:\n- a\n---\n"),
    ("---\nx: 1\n---", "---\nx: 1\ntags:\n- a\n---"),
    ("---\r\nx: 1\r\n---\r\nb\r\n", "---\r\nx: 1\r\ntags:\r\n- a\r\n---\r\nb\r\n"),
    ("\ufeff---\nx: 1\n---\n", "\ufeff---\nx: 1\ntags:\n- a\n---\n"),
    ("---\ntags: [x,\n  y]\nz: 1\n---\n", "---\ntags:\n- a\nz: 1\n---\n"),
    ("---\ntags:\nz: 1\n---\n", "---\ntags:\n- a\nz: 1\n---\n"),
    ("--- no fence\n", "---\ntags:\n- a\n---\n\n--- no fence\n"),
])  # fmt: skip
def test_pages_of_all_kinds(text, expected):
    assert split(text).text == text
    assert split(text).changed({"tags": ["a"]}).text == expected


@pytest.mark.parametrize("front", [
    "{tags: [a], x: 1}", "- a\n- b", "x: [", "tags: &t [a]\nother: *t", "text", "a: " + "[" * 100,
    "a: 1\nx: " + "y" * 2**16,
])  # fmt: skip
def test_what_cannot_be_changed_is_refused(front):
    with pytest.raises(LibraryError):
        split(f"---\n{front}\n---\nbody\n").changed({"tags": ["b"]})


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.text(max_size=12),
    st.lists(st.text(max_size=6), max_size=3),
    st.dictionaries(st.text("abc", min_size=1, max_size=2), st.text(max_size=6), max_size=2),
)  # fmt: skip
KEYS = st.text("abcdefgh_-", min_size=1, max_size=8)


@settings(max_examples=200, deadline=None)
@given(before=st.dictionaries(KEYS, VALUES, max_size=5), change=st.dictionaries(KEYS, VALUES),
       flow=st.sampled_from([None, False]), body=st.text(max_size=20))  # fmt: skip
def test_any_change_is_that_change(before, change, flow, body):
    front = yaml.safe_dump(before, default_flow_style=flow, allow_unicode=True) if before else ""
    text = f"---\n{front}---\n{body}"
    page = split(text)
    assert page.text == text
    if front.startswith("{"):
        return
    read = page.values()  # ends of lines that are none to us may read as others than they were
    wanted = {k: v for k, v in read.items() if k not in change}
    wanted |= {k: v for k, v in change.items() if v is not None}
    changed = page.changed(change)
    assert changed.values() == wanted
    assert changed.body == page.body
