"""The command as a user meets it: help, mistakes, and each verb once."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest
import yaml

from lorakit.cli import VERBS
from lorakit.core.errors import SaveError
from lorakit.demo import base_folder
from lorakit.demo.rows import rows
from lorakit.demo.show import MARK, _make_room


def lorakit(*arguments: str, cwd=None, text: str = "") -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "lorakit", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, input=text)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A small run made by the command itself."""
    folder = tmp_path_factory.mktemp("cli")
    lines = [
        json.dumps({"ask": row["prompt"].strip(), "say": row["completion"]})
        for row in rows(40, seed=0)
    ]
    (folder / "train.jsonl").write_text("\n".join(lines) + "\n")
    recipe = {
        "model": str(base_folder()), "task": "completion",
        "data": {"train": "train.jsonl", "prompt": "{ask}\n", "completion": "{say}"},
        "lora": {"targets": ["q", "v"]},
        "train": {"steps": 4, "batch_size": 2, "lr": 1e-3, "device": "cpu"},
        "output": "run",
    }  # fmt: skip
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    done = lorakit("train", "recipe.yaml", "--lora.rank", "2", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["metrics"]["step"] == 4
    return folder


def test_help_is_quick():
    lorakit("--help")
    times = []
    for _ in range(3):
        began = time.perf_counter()
        done = lorakit("--help")
        times.append(time.perf_counter() - began)
    assert done.returncode == 0
    assert min(times) < 0.5
    assert all(verb in done.stdout for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(verb):
    done = lorakit(verb, "--help")
    assert done.returncode == 0
    assert f"lorakit {verb}" in done.stdout
    assert "--json" in done.stdout


def test_the_version():
    assert lorakit("--version").stdout.startswith("lorakit 0.")


MISTAKES = [
    (["trian", "recipe.yaml"], "Did you mean 'train'"),
    (["train", "recpie.yaml"], "Did you mean recipe.yaml"),
    (["train", "recipe.yaml", "--output", "x", "--lora.rnak", "4"], "Did you mean lora.rank"),
    (["train", "recipe.yaml", "--output", "x", "--data.train", "tain.jsonl"], "'train.jsonl'"),
    (["train", "recipe.yaml", "--output", "x", "--data.prompt", "{akd}"], "Did you mean 'ask'"),
    (["train", "recipe.yaml"], "already holds a run"),
    (["plan", "nowhere/at/all"], "is not there"),
    (["plan", "recpie.yaml"], "Did you mean recipe.yaml"),
    (["plan", "recipe.yaml", "--memory", "lots"], "such as 24GB"),
    (["plan", "recipe.yaml", "--dtype", "fp8"], "'fp32', 'bf16' or 'fp16'"),
    (["inspect", "nowhere"], "is not there"),
    (["inspect", "."], "holds no adapter"),
    (["merge", "--adapter", "run", "--out", "run"], "is not replaced"),
    (["generate"], "There is no text"),
    (["generate", "hello"], "--adapter FOLDER"),
    (["generate", "--adapter", "run", "--precision", "fp8", "hello"], "fp32, bf16, fp16"),
    (["predict", "--adapter", "run", "--model", "nowhere/at/all", "text"], "is not there"),
    (["demo", "--out", "run"], "no earlier demo"),
    (["train", "recipe.yaml", "--output", "x", "--data.benchmark", "glue/sst"], "'glue/sst2'"),
    (["train", "recipe.yaml", "--output", "x", "--data.benchmark", "glue/rte"], "Set task: class"),
    (["eval"], "Name --adapter FOLDER"),
    (["eval", "--adapter", "run"], "no evaluation rows"),
    (["eval", "--adapter", "run", "--resume"], "name it with --out"),
    (["eval", "--adapter", "run", "--data", "train.jsonl", "--metrics", "bluu"], "'bleu'"),
    (["eval", "--adapter", "run", "--data", "tain.jsonl"], "'train.jsonl'"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES, ids=lambda value: str(value)[:40])
def test_a_mistake_is_one_helpful_line_and_exit_code_2(arguments, message, trained):
    before = sorted(trained.rglob("*"))
    done = lorakit(*arguments, cwd=trained)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1, done.stderr
    assert message in done.stderr
    assert sorted(trained.rglob("*")) == before


def test_debug_shows_the_traceback(trained):
    done = lorakit("--debug", "inspect", "nowhere", cwd=trained)
    assert "Traceback" in done.stderr
    assert done.returncode != 0


def test_a_run_that_diverges_exits_with_1(trained):
    done = lorakit(
        "train", "recipe.yaml", "--output", "diverged", "--train.lr", "1e38", "--train.clip", "0",
        "--train.warmup", "0", "--quiet", cwd=trained,
    )  # fmt: skip
    assert done.returncode == 1
    assert "finite" in done.stderr
    assert "Traceback" not in done.stderr


def test_inspect(trained):
    done = lorakit("inspect", "run", "--layers", cwd=trained)
    assert done.returncode == 0
    assert "rank 2" in done.stdout
    assert "self_attn.q_proj" in done.stdout
    found = json.loads(lorakit("inspect", "run", "--json", cwd=trained).stdout)
    assert found["method"] == "lora"
    assert all(layer["rank"] == 2 for layer in found["layers"])
    assert found["run"]["metrics"]["step"] == 4


def test_plan_reads_no_weights(trained):
    found = json.loads(lorakit("plan", "recipe.yaml", "--json", cwd=trained).stdout)
    made = json.loads(lorakit("inspect", "run", "--json", cwd=trained).stdout)
    assert found["parameters"] == made["parameters"] * 4  # the recipe's rank is 8
    done = lorakit("plan", "recipe.yaml", "--rank", "4", "--memory", "1GB", cwd=trained)
    assert "trained in full" not in done.stdout
    assert "rank 4" in done.stdout
    assert "the longest of 40 of 40 rows" in done.stdout
    assert found["memory"]["adapter"]["peak"] > found["training_bytes"] / 2


def test_plan_of_a_config_alone(trained):
    (trained / "some.json").write_text(
        json.dumps({"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2,
                    "num_attention_heads": 4, "intermediate_size": 96, "vocab_size": 128})
    )  # fmt: skip
    done = lorakit(
        "plan", "some.json", "--rank", "4", "--targets", "q,v", "--batch", "2", "--seq", "64",
        "--dtype", "bf16", "--checkpointing", "--memory", "1GB", "--json", cwd=trained,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["parameters"] == 2 * 2 * 4 * (64 + 64)
    assert (found["batch"]["rows"], found["batch"]["length"]) == (2, 64)
    assert found["memory"]["full"]["peak"] > found["memory"]["adapter"]["peak"] > 0
    assert found["largest_batch"]["adapter"] > 2


def test_generate_side_by_side(trained):
    done = lorakit(
        "generate", "--adapter", "run", "--with-base", "--json", "--max-new-tokens", "5", "-",
        cwd=trained, text="name: Zor\n\nname: Bal\n",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [entry["prompt"] for entry in found] == ["name: Zor", "name: Bal"]
    assert all(entry["answers"].keys() == {"base", "run"} for entry in found)
    shown = lorakit("generate", "--adapter", "run", "--max-new-tokens", "3", "Once", cwd=trained)
    assert shown.stdout.startswith("> Once\n")


def test_merge_and_merging_twice(trained):
    done = lorakit("merge", "--adapter", "run", "--out", "merged", cwd=trained)
    assert done.returncode == 0, done.stderr
    assert "bit for bit" in done.stdout
    assert (trained / "merged" / "tokenizer.json").exists()
    again = lorakit("merge", "-m", "merged", "--adapter", "run", "--out", "twice", cwd=trained)
    assert again.returncode == 2
    assert "already merged" in again.stderr
    assert not (trained / "twice").exists()


def test_eval(trained):
    arguments = (
        "eval",
        "--adapter",
        "run",
        "--data",
        "train.jsonl",
        "--rows",
        "4",
        "--out",
        "told",
    )
    more = ("--metrics", "chrf", "--max-new-tokens", "4", "--with-base", "--json")
    done = lorakit(*arguments, *more, cwd=trained)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["voices"].keys() == {"base", "run"}
    own = found["voices"]["run"]["metrics"]
    assert own["chrf"]["rows"] == own["loss"]["rows"] == 4
    assert own["loss"]["low"] <= own["loss"]["value"] <= own["loss"]["high"]
    assert found == json.loads((trained / "told" / "eval.json").read_text())
    again = lorakit(*arguments, *more, cwd=trained)
    assert again.returncode == 2
    assert "--resume" in again.stderr
    shown = lorakit(*arguments, *more[:-1], "--resume", cwd=trained)
    assert shown.stdout.startswith("metric")
    assert "chrf" in shown.stdout
    assert "report: told/report.md" in shown.stdout


def test_predict(trained):
    lines = [
        json.dumps({"text": row["completion"], "label": row["attributes"]["kind"] < "lion"})
        for row in rows(20, seed=0)
    ]
    (trained / "labels.jsonl").write_text(
        "\n".join(lines).replace("true", '"a"').replace("false", '"z"')
    )
    done = lorakit(
        "train", "recipe.yaml", "--task", "classification", "--data.train", "labels.jsonl",
        "--data.prompt", "null", "--data.completion", "null", "--output", "labels", "--quiet",
        cwd=trained,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(
        lorakit("predict", "--adapter", "labels", "--json", "hi", cwd=trained).stdout
    )
    assert found[0]["answers"]["labels"]["label"] in ("a", "z")
    assert 0.5 <= found[0]["answers"]["labels"]["probability"] <= 1


def test_a_demo_takes_away_what_a_demo_made_alone(tmp_path):
    for name in ("recipe.yaml", "train.jsonl", "thesis.md"):
        (tmp_path / name).write_text("mine")
    with pytest.raises(SaveError, match="no earlier demo"):
        _make_room(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"recipe.yaml", "train.jsonl", "thesis.md"}
    (tmp_path / MARK).touch()
    (tmp_path / "run").mkdir()
    (tmp_path / "rank4").mkdir()
    _make_room(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {MARK, "thesis.md", "rank4"}
