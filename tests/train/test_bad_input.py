"""A corpus of bad recipes and data: each one a typed error of one line, nothing written."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import yaml

from lorakit.core.errors import LorakitError
from lorakit.demo import base_folder
from lorakit.train.recipe import parse_overrides, read_recipe
from lorakit.train.run import run

GOOD = [{"prompt": f"ask {i}", "completion": f"answer {i}", "label": i % 2} for i in range(8)]


def base_recipe(folder: Path) -> dict:
    return {
        "model": str(base_folder()),
        "task": "completion",
        "data": {"train": str(folder / "train.jsonl")},
        "train": {"steps": 1, "batch_size": 2, "device": "cpu"},
        "output": str(folder / "out"),
    }


def lines(*rows: object) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


# Name -> (what the message must hold, dotted fields to set, files to write).
CORPUS: dict[str, tuple[str, dict, dict]] = {
    # recipes
    "a mistyped field": ("Did you mean lora.rank", {"lora.rnak": 4}, {}),
    "a mistyped word": ("Did you mean 'completion'", {"task": "complection"}, {}),
    "two mistakes": ("Also: lora.rnak", {"task": "complection", "lora.rnak": 4}, {}),
    "a mistyped part": ("Did you mean lora", {"lroa": {"rank": 4}}, {}),
    "a field in the wrong part": ("Did you mean train.lr", {"lora.lr": 1e-3}, {}),
    "no model": ("model is missing", {"model": ...}, {}),
    "no task": ("task is missing", {"task": ...}, {}),
    "no data": ("data is missing", {"data": ...}, {}),
    "no output": ("output is missing", {"output": ...}, {}),
    "an unknown task": ("'completion'", {"task": "complete"}, {}),
    "rank as a word": ("lora.rank is 'eight'", {"lora.rank": "eight"}, {}),
    "rank true": ("got True", {"lora.rank": True}, {}),
    "rank negative": ("lora.rank is -1", {"lora.rank": -1}, {}),
    "rank with a fraction": ("lora.rank is 2.5", {"lora.rank": 2.5}, {}),
    "rank zero": ("expected at least 1", {"lora.rank": 0}, {}),
    "alpha zero": ("alpha is 0", {"lora.alpha": 0}, {}),
    "alpha infinite": ("lora.alpha is inf", {"lora.alpha": float("inf")}, {}),
    "dropout of one": ("lora.dropout is 1", {"lora.dropout": 1}, {}),
    "learning rate zero": ("train.lr is 0", {"train.lr": 0}, {}),
    "learning rate as text": ("train.lr is 'fast'", {"train.lr": "fast"}, {}),
    "no steps": ("train.steps is 0", {"train.steps": 0}, {}),
    "an unknown schedule": ("train.schedule", {"train.schedule": "wavy"}, {}),
    "an unknown precision": ("train.precision", {"train.precision": "fp8"}, {}),
    "an unknown device": ("train.device is 'abacus'", {"train.device": "abacus"}, {}),
    "LoRA's places for a baseline": (
        "places of its paper", {"method": "houlsby", "lora.targets": ["all-linear"]}, {}
    ),
    "places for the top blocks": (
        "whose places are its own", {"method": "top", "lora.targets": "q"}, {}
    ),
    "patience without evaluation": ("needs evaluations", {"train.patience": 2}, {}),
    "an end that is no token": ("is no token", {"data.end": "<|end|>"}, {}),
    "an end for whole turns": ("ends rows itself", {"task": "chat", "data.end": "</s>"}, {}),
    "a prompt without a completion": ("go together", {"data.prompt": "{prompt}"}, {}),
    "a group that is a number": ("data", {"data": 3}, {}),
    "targets that mean nothing": ("Did you mean 'q_proj'", {"lora.targets": "q_prjo"}, {}),
    "targets that cannot be adapted": ("no low-rank form", {"lora.targets": "*act_fn"}, {}),
    "extras that mean nothing": ("no module is meant", {"lora.extras": ["clasifier"]}, {}),
    "a rank pattern of nothing": ("rank pattern", {"lora.rank": {"*.77.*": 2, "*": 1}}, {}),
    "longer than the model": ("can place", {"data.max_length": 10**6}, {}),
    "a model that is not there": ("is not there", {"model": "./no/such/model"}, {}),
    "a model that is a file": ("expected the folder", {"model": "{folder}/train.jsonl"}, {}),
    "a model without a config": ("no config.json", {"model": "{folder}"}, {}),
    "a model whose config is damaged": (
        "damaged", {"model": "{folder}/base"}, {"base/config.json": '{"model_type": '}
    ),
    "an adapter as a model": (
        "is an adapter", {"model": "{folder}/a"}, {"a/adapter_config.json": "{}"}
    ),
    "a model of another kind": ("no form as a encoder-decoder", {"task": "seq2seq"}, {}),
    "an output that is a file": ("holds no run", {"output": "{folder}/train.jsonl"}, {}),
    "an output with other content": (
        "holds no run", {"output": "{folder}/work"}, {"work/thesis.txt": "years"}
    ),
    # data
    "data that are not there": ("Did you mean", {"data.train": "{folder}/trian.jsonl"}, {}),
    "data of an unknown type": ("known type", {"data.train": "{folder}/a.xlsx"}, {"a.xlsx": "x"}),
    "no rows": ("no rows", {}, {"train.jsonl": "\n"}),
    "a broken line": ("line 9: not valid JSON", {}, {"train.jsonl": lines(*GOOD) + '{"a": \n'}),
    "a line that is a list": ("line 1: a list", {}, {"train.jsonl": "[1, 2]\n"}),
    "fields that say nothing": (
        "no known field for a prompt", {}, {"train.jsonl": lines({"a": "x", "b": "y"})}
    ),
    "a field that one row lacks": (
        "line 9: no field 'completion'", {}, {"train.jsonl": lines(*GOOD, {"prompt": "x"})}
    ),
    "an empty completion": (
        "line 9: the completion is empty", {},
        {"train.jsonl": lines(*GOOD, {"prompt": "x", "completion": " "})},
    ),
    "a completion that is null": (
        "completion is empty (null)", {},
        {"train.jsonl": lines({"prompt": "x", "completion": None})},
    ),
    "a prompt that is a list": (
        "prompt is a list", {}, {"train.jsonl": lines({"prompt": ["x"], "completion": "y"})}
    ),
    "a template with a mistyped field": (
        "Did you mean 'prompt'", {"data.prompt": "{prmopt}", "data.completion": "{completion}"}, {}
    ),
    "a template with code": (
        "plain field names", {"data.prompt": "{prompt!r}", "data.completion": "x"}, {}
    ),
    "a csv with a column too many": (
        "line 3: 3 columns", {"data.train": "{folder}/a.csv"},
        {"a.csv": "prompt,completion\na,b\na,b,c\n"},
    ),
    "a csv with a column twice": (
        "'prompt' twice", {"data.train": "{folder}/a.csv"}, {"a.csv": "prompt,prompt\na,b\n"}
    ),
    "a csv with an open quote": (
        "line", {"data.train": "{folder}/a.csv"}, {"a.csv": 'prompt,completion\n"a,b\n'}
    ),
    "a wrong column": (
        "no field 'labl'", {"task": "classification", "data.label": "labl", "data.text": "prompt"},
        {},
    ),
    "one class": (
        "two labels or more", {"task": "classification", "data.text": "prompt"},
        {"train.jsonl": lines({"prompt": "a", "label": 1}, {"prompt": "b", "label": 1})},
    ),
    "a label that is a fraction": (
        "expected a label", {"task": "classification", "data.text": "prompt"},
        {"train.jsonl": lines({"prompt": "a", "label": 0.5}, {"prompt": "b", "label": 1})},
    ),
    "a label only in evaluation": (
        "is in no training row",
        {"task": "classification", "data.text": "prompt", "data.eval": "{folder}/eval.jsonl"},
        {"eval.jsonl": lines({"prompt": "a", "label": 7})},
    ),
    "a score that is a word": (
        "expected a number", {"task": "regression", "data.text": "prompt"},
        {"train.jsonl": lines({"prompt": "a", "score": "high"})},
    ),
    "a conversation without an assistant": (
        "no turn of the assistant", {"task": "chat"},
        {"train.jsonl": lines({"messages": [{"role": "user", "content": "hi"}]})},
    ),
    "a role that no one has": (
        "the role 'wizard'", {"task": "chat"},
        {"train.jsonl": lines({"messages": [{"role": "wizard", "content": "hi"}]})},
    ),
    "a chat without a template": (
        "no chat template", {"task": "chat"},
        {"train.jsonl": lines({"messages": [{"role": "assistant", "content": "hi"}]})},
    ),
    "bytes of another encoding": (
        "latin-1", {"data.train": "{folder}/a.csv"}, {"a.csv": b"prompt,completion\ncaf\xe9,b\n"}
    ),
    "an encoding that is none": (
        "no encoding", {"data.encoding": "klingon"}, {}
    ),
    "all rows held out": ("leaves none", {"data.eval_share": 0.99}, {}),
    "a parquet that is none": (
        "no readable parquet", {"data.train": "{folder}/a.parquet"}, {"a.parquet": b"PAR0"}
    ),
    "no file for the split": (
        "no file for train", {"data.train": "{folder}/d"}, {"d/dev.jsonl": lines(*GOOD)}
    ),
}  # fmt: skip


def test_the_corpus_is_large_enough():
    assert len(CORPUS) >= 40


def write_all(folder: Path, changes: dict, files: dict) -> Path:
    for name, content in {"train.jsonl": lines(*GOOD), **files}.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    recipe = base_recipe(folder)
    for dotted, value in changes.items():
        *parents, last = dotted.split(".")
        part = recipe
        for name in parents:
            part = part.setdefault(name, {})
        if value is ...:
            del part[last]
        else:
            part[last] = value.replace("{folder}", str(folder)) if isinstance(value, str) else value
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return folder / "recipe.yaml"


@pytest.mark.parametrize(("message", "changes", "files"), CORPUS.values(), ids=CORPUS.keys())
def test_bad_input_is_one_helpful_line(message, changes, files, tmp_path):
    recipe = write_all(tmp_path, changes, files)
    before = sorted(tmp_path.rglob("*"))
    began = time.perf_counter()
    with pytest.raises(LorakitError) as caught:
        run(read_recipe(recipe), quiet=True)
    assert time.perf_counter() - began < 2
    text = str(caught.value)
    assert message in text
    assert 30 < len(text) < 500, text
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("- a\n- b\n", "is a list"),
        ("model: [unclosed\n", "not valid YAML"),
        ("model: a\nmodel: b\n", "stands twice"),
        ("data:\n  train: a\n  train: b\n", "stands twice"),
        ("\tmodel: a\n", "not valid YAML"),
        (b"\xff\xfe", "cannot be read as text"),
    ],
)
def test_files_that_are_no_recipe(text, message, tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(LorakitError, match=message):
        read_recipe(file)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lora.rank"], "has no value"),
        (["rank", "4"], "is not a field"),
        (["--lora.rank", "--train.lr"], "has no value"),
        (["--", "4"], "is not a field"),
        (["--lora.rank", "[4"], "lora.rank"),
    ],
)
def test_flags_that_are_none(arguments, message):
    with pytest.raises(LorakitError, match=message):
        parse_overrides(arguments)
