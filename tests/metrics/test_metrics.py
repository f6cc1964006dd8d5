"""The registry, and what all metrics of texts refuse."""

from __future__ import annotations

import random
import subprocess
import sys

import numpy as np
import pytest

from lorakit import metrics
from lorakit.core.errors import DataError, MissingExtraError, RecipeError
from lorakit.metrics.sacre import sacrebleu_metric
from lorakit.metrics.text import TextMetric

WITHOUT_DATA = sorted(set(metrics.TEXT) - {"meteor"})
ANSWERS = ["The Aromi is a cheap pub.", "near the river is a place for kids", "hi"]
REFERENCES = [
    ["Aromi is a pub near the river.", "The pub Aromi"],
    ["near the river is"],
    ["hi", "x"],
]


def test_names_are_sorted_and_each_is_a_metric():
    assert list(metrics.TEXT) == sorted(metrics.TEXT)
    for name in metrics.TEXT:
        assert isinstance(metrics.metric(name), TextMetric)


def test_scores_by_name_in_the_order_asked_for():
    found = metrics.score(["ter", "bleu"], ANSWERS, REFERENCES)
    assert list(found) == ["ter", "bleu"]
    assert found["bleu"] == metrics.metric("bleu")(ANSWERS, REFERENCES)
    assert metrics.score("ter", ANSWERS, REFERENCES) == {"ter": found["ter"]}


@pytest.mark.parametrize("name", WITHOUT_DATA)
def test_signatures_are_distinct_and_tell_the_references(name):
    assert "nrefs:1" in metrics.signature(name, [["a"], ["b"]])
    signatures = [metrics.signature(other) for other in WITHOUT_DATA]
    assert signatures.count(metrics.signature(name)) == 1


def test_an_unknown_name():
    with pytest.raises(RecipeError, match=r"called 'bluu'\. Did you mean 'bleu'"):
        metrics.score(["rouge_1", "bluu"], ANSWERS, REFERENCES)
    with pytest.raises(RecipeError, match="There are: bleu"):
        metrics.signature("perplexity")


@pytest.mark.parametrize("name", WITHOUT_DATA)
@pytest.mark.parametrize(
    ("answers", "references", "match"),
    [
        (["a"], [["a"], ["b"]], "1 answers and references for 2 rows"),
        ([], [], "no rows"),
        ("abc", [["a"], ["b"], ["c"]], "one string"),
        (["a"], ["a"], "row 0 are not a list"),
        (["a", None], [["a"], ["b"]], "Answer 1 is NoneType"),
        (["a"], [[None]], "row 0 are not a list"),
    ],
)
def test_rows_that_cannot_be_scored(name, answers, references, match):
    with pytest.raises(DataError, match=match):
        metrics.score([name], answers, references)


@pytest.mark.parametrize("name", WITHOUT_DATA)
def test_only_squad_takes_rows_without_references(name):
    metric = metrics.metric(name)
    assert metric.unanswerable == name.startswith("squad")
    if not metric.unanswerable:
        with pytest.raises(DataError, match="Row 1 has no reference"):
            metric(["a", "b"], [["a"], []])


@pytest.mark.parametrize("name", WITHOUT_DATA)
def test_a_bootstrap_draws_rows_of_statistics(name):
    """Rows drawn from the statistics score as the rows themselves do.

    But for NIST and CIDEr, whose weights are those of all rows.
    """
    metric = metrics.metric(name)
    drawn = random.Random(1).choices(range(3), k=5)
    sums = metric.statistics(ANSWERS, REFERENCES)[drawn].sum(axis=0)
    again = metric([ANSWERS[i] for i in drawn], [REFERENCES[i] for i in drawn])
    if name not in ("nist", "cider"):
        assert metric.total(sums) == pytest.approx(again)
    assert np.isfinite(metric.total(sums))


def test_a_missing_library_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "rouge_score.rouge_scorer", None)
    with pytest.raises(
        MissingExtraError, match=r"needs rouge-score.*pip install 'lorakit\[eval\]'"
    ):
        metrics.score(["rouge_1"], ["a"], [["a"]])
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics", None)
    with pytest.raises(MissingExtraError, match=r"needs sacrebleu.*'lorakit\[eval\]'"):
        sacrebleu_metric("TER", {})(["a"], [["a"]])


def test_the_registry_is_light():
    code = "import sys, lorakit.metrics; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"numpy", "torch", "sacrebleu", "nltk", "sklearn"}
