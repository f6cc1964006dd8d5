from __future__ import annotations

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from lorakit.metrics.meteor import meteor_rows


def synonyms(*groups):
    """What METEOR asks of WordNet: the groups of synonyms that a word is in."""
    made = [
        SimpleNamespace(lemmas=lambda g=g: [SimpleNamespace(name=lambda w=w: w) for w in g])
        for g in groups
    ]
    return SimpleNamespace(synsets=lambda word: [m for g, m in zip(groups, made) if word in g])


def test_rows_by_hand():
    words = synonyms(("cat", "puss"))
    # Three matches in one chunk: F 1, penalty 0.5 * (1 / 3) ** 3.
    assert meteor_rows(["The cat sat."], [["the cat sat"]], words) == pytest.approx(
        [100 * (1 - 0.5 / 27)]
    )
    # Two matches in two chunks: the penalty is a half.
    assert meteor_rows(["b a"], [["a b"]], words) == pytest.approx([50])
    # A synonym matches, and so does a stem.
    assert meteor_rows(["the puss sits"], [["the cat sit"]], words) == pytest.approx(
        [100 * (1 - 0.5 / 27)]
    )
    # One match of 1 and of 2 words: P 1, R 1/2, F = P R / (0.9 P + 0.1 R), penalty a half; the
    # other reference has none.
    expected = 0.5 / (0.9 + 0.05) * 0.5
    assert meteor_rows(["a"], [["x y", "a b"]], words) == pytest.approx([100 * expected])
    assert meteor_rows(["", "x"], [["a"], ["y"]], words) == [0, 0]


def in_a_fresh_process(code, folder):
    environment = {**os.environ, "NLTK_DATA": str(folder)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_with_wordnet(tmp_path):
    root = tmp_path / "corpora" / "wordnet"
    root.mkdir(parents=True)
    kinds = ("adj", "adv", "noun", "verb")
    names = [f"index.{k}" for k in (*kinds, "sense")] + [f"{k}.exc" for k in kinds]
    for name in [*names, *(f"data.{k}" for k in kinds), "cntlist.rev"]:
        (root / name).write_text("")
    (root / "lexnames").write_text("00\tnoun.animal\t1\n")
    (root / "data.adj").write_text("  1 WordNet 3.0 Copyright 2006\n")
    (root / "data.noun").write_text("  1 header\n00000011 00 n 02 cat 0 puss 0 000 | an animal\n")
    (root / "index.noun").write_text("cat n 1 0 1 0 00000011\npuss n 1 0 1 0 00000011\n")
    code = """
import json
from lorakit import metrics
from lorakit.metrics.meteor import available
found = metrics.score(["meteor"], ["the cat sat"], [["the puss sat"]])
print(json.dumps([available(), found["meteor"], metrics.signature("meteor")]))
"""
    there, found, signature = in_a_fresh_process(code, tmp_path)
    assert there
    assert found == pytest.approx(100 * (1 - 0.5 / 27))
    assert "WordNet:3.0" in signature


def test_without_wordnet(tmp_path):
    code = """
import json, nltk
nltk.data.path[:] = []
from lorakit import metrics
from lorakit.core.errors import DataError
from lorakit.metrics.meteor import available
try:
    metrics.score(["rouge_1", "meteor"], ["a"], [["a"]])
except DataError as error:
    print(json.dumps([available(), str(error)]))
"""
    there, message = in_a_fresh_process(code, tmp_path)
    assert not there
    assert "nltk.downloader wordnet" in message
