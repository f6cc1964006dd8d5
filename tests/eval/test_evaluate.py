"""Evaluations from folders: what is asked, what is kept, and what may be gone on with."""

from __future__ import annotations

import json
import math

import pytest
import torch

import lorakit as lk
from lorakit.core.errors import DataError, ModelError, RecipeError, ResumeError, SaveError
from lorakit.core.state import trained_parameters
from lorakit.demo import base_folder
from lorakit.demo.rows import rows as demo_rows
from lorakit.eval import evaluate as module
from lorakit.eval.evaluate import Who, evaluate
from lorakit.eval.generate import Decoding, write
from lorakit.eval.subject import What
from lorakit.metrics import score
from lorakit.models.load import load_base
from lorakit.train.recipe import make_recipe
from lorakit.train.run import run

SHORT = Decoding(max_new_tokens=6)


@pytest.fixture(scope="module")
def e2e(tmp_path_factory) -> str:
    """A folder with a test set of E2E: four meanings, one of them with two references."""
    folder = tmp_path_factory.mktemp("e2e")
    lines = ["mr,ref", '"name[Aromi], area[riverside]",Aromi is in the riverside area.']
    lines += ['"name[Aromi], area[riverside]",Near the river there is Aromi.']
    lines += [
        f'"name[Cotto], food[{food}]",Cotto serves {food} food.' for food in ("French", "Fast")
    ]
    lines += ['"name[Zizzi], eatType[pub]",Zizzi is a pub.']
    (folder / "testset_w_refs.csv").write_text("\n".join(lines) + "\n")
    return str(folder)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory, e2e) -> str:
    """An adapter that changes answers, with the recipe of its run."""
    folder = tmp_path_factory.mktemp("adapter") / "own"
    model = load_base(str(base_folder()), "causal").model
    lk.inject(model, lk.plan(model, targets="attention", rank=2), name="own")
    torch.manual_seed(0)
    with torch.no_grad():
        for _, value in trained_parameters(model, "own"):
            value.add_(0.1 * torch.randn_like(value))
    recipe = {"task": "completion", "data": {"train": e2e, "benchmark": "e2e"}}
    lk.save(model, folder, name="own", run={"recipe": recipe})
    return str(folder)


def who(adapter: str, **options) -> Who:
    return Who((adapter,), model=str(base_folder()), device="cpu", **options)


def what(**options) -> What:
    given = {"split": "test", "metrics": ("bleu", "rouge_l"), "batch_size": 2, "decoding": SHORT}
    return What(**{**given, **options})


def test_voices_side_by_side_with_all_references(adapter, e2e, tmp_path):
    found = evaluate(who(adapter, with_base=True), what(), out=tmp_path / "out", quiet=True)
    base, own = found.voices
    assert (base.label, own.label, own.folder) == ("base", "own", adapter)
    assert base.answers != own.answers
    assert len(own.answers) == 4
    references = [question.references for question in found.asked]
    assert references[0] == ("Aromi is in the riverside area.", "Near the river there is Aromi.")
    for voice in found.voices:
        plain = score(["bleu", "rouge_l"], voice.answers, references)
        for name, value in plain.items():
            assert voice.figures[name].value == pytest.approx(value)
        assert voice.figures["bleu"].rows == 4
        assert voice.figures["loss"].rows == 5
        assert voice.figures["perplexity"].value == pytest.approx(
            math.exp(voice.figures["loss"].value)
        )
    kept = json.loads((tmp_path / "out" / "eval.json").read_text())
    assert kept["voices"]["own"]["metrics"]["loss"]["value"] == own.figures["loss"].value
    assert (kept["rows"], kept["questions"], kept["split"]) == (5, 4, "test")
    assert kept["model"] == str(base_folder())
    assert kept["signatures"].keys() == {"bleu", "rouge_l"}
    lines = (tmp_path / "out" / "answers-own.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["row"] for line in lines) == [0, 1, 2, 3]
    page = (tmp_path / "out" / "report.md").read_text()
    assert "| bleu |" in page
    assert "Aromi is in the riverside area. / Near the river" in page


def test_the_first_questions_come_with_all_their_references(adapter):
    found = evaluate(who(adapter), what(rows=1), quiet=True)
    assert (found.identity["rows"], found.identity["questions"]) == (2, 1)
    assert len(found.asked[0].references) == 2


def test_what_was_stopped_is_gone_on_with(adapter, tmp_path, monkeypatch):
    whole = evaluate(who(adapter), what(), out=tmp_path / "whole", quiet=True)
    prompts: list[list[str]] = []

    def stopped(*args, **options):
        prompts.append(list(args[2]))
        for number, batch in enumerate(write(*args, **options)):
            if number == 1 and len(prompts) == 1:
                raise KeyboardInterrupt
            yield batch

    monkeypatch.setattr(module, "write", stopped)
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        evaluate(who(adapter), what(), out=out, quiet=True)
    assert not (out / "eval.json").exists()
    with (out / "answers-own.jsonl").open("a") as stream:
        stream.write('{"row": 3, "pro')  # as a crash would leave it
    found = evaluate(who(adapter), what(), out=out, resume=True, quiet=True)
    assert [len(asked) for asked in prompts] == [4, 2]
    assert found.voices[0].answers == whole.voices[0].answers
    assert (out / "eval.json").read_text() == (tmp_path / "whole" / "eval.json").read_text()


def test_another_evaluation_is_not_gone_on_with(adapter, e2e, tmp_path):
    out = tmp_path / "out"
    evaluate(who(adapter), what(), out=out, quiet=True)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(SaveError, match="Pass --resume"):
        evaluate(who(adapter), what(), out=out, quiet=True)
    changes = {
        "decoding.beams was 1 and is 2": what(decoding=Decoding(max_new_tokens=6, beams=2)),
        "metrics was": what(metrics=("bleu",)),
        "questions was 4 and is 2": what(rows=2),
    }
    for message, other in changes.items():
        with pytest.raises(ResumeError, match=message):
            evaluate(who(adapter), other, out=out, resume=True, quiet=True)
    with pytest.raises(ResumeError, match="voices was"):
        evaluate(who(adapter, with_base=True), what(), out=out, resume=True, quiet=True)
    with pytest.raises(ResumeError, match="precision was 'fp32' and is 'bf16'"):
        evaluate(who(adapter, precision="bf16"), what(), out=out, resume=True, quiet=True)
    rows = tmp_path / "rows.csv"
    rows.write_text("mr,ref\n" + '"name[A]",A.\n' * 5)
    with pytest.raises(ResumeError, match="data was"):
        evaluate(who(adapter), what(data=str(rows)), out=out, resume=True, quiet=True)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_mistakes_are_told_before_anything_is_loaded(adapter, e2e, tmp_path):
    plain = Who(model=str(base_folder()), device="cpu")
    for asked, given, message in [
        (plain, What(), "Pass --benchmark NAME or --task NAME"),
        (plain, What(task="completion"), "Pass --data"),
        (plain, What(task="complete", data=e2e), "Did you mean 'completion'"),
        (plain, What(benchmark="glue/sst2", data=e2e), "tells its labels"),
        (who(adapter), What(benchmark="e2f", data=e2e), "Did you mean 'e2e'"),
        (who(adapter), what(metrics=("blue",)), "Did you mean 'bleu'"),
        (who(adapter), What(benchmark="glue/sst2", data=e2e), "is for classification"),
        (who(adapter), What(), "no evaluation rows"),
    ]:
        with pytest.raises(RecipeError, match=message):
            evaluate(asked, given, out=tmp_path / "out", quiet=True)
    with pytest.raises(DataError, match="no split 'tset'"):
        evaluate(who(adapter), what(split="tset"), quiet=True)
    with pytest.raises(ModelError, match="Which base"):
        evaluate(Who(), What(benchmark="perplexity", data=e2e + "/testset_w_refs.csv"), quiet=True)
    assert not (tmp_path / "out").exists()


def test_the_perplexity_of_the_base_alone(tmp_path):
    (tmp_path / "wiki.test.raw").write_text("The old mill stood by the river. " * 40)
    found = evaluate(
        Who(model=str(base_folder()), device="cpu"),
        What(data=str(tmp_path), benchmark="perplexity", split="test"), quiet=True,
    )  # fmt: skip
    figures = found.voices[0].figures
    assert figures.keys() == {"loss", "perplexity", "token_accuracy"}
    assert figures["perplexity"].value == pytest.approx(math.exp(figures["loss"].value))


def recipe_of(tmp_path, task: str, data: dict, **train):
    return make_recipe(
        {
            "model": str(base_folder()), "task": task, "data": data,
            "lora": {"rank": 2, "targets": ["q", "v"]},
            "train": {"steps": 4, "batch_size": 4, "lr": 1e-3, "device": "cpu"} | train,
            "output": str(tmp_path / "run"),
        }
    )  # fmt: skip


@pytest.fixture
def cola(tmp_path) -> str:
    folder = tmp_path / "CoLA"
    folder.mkdir()
    for name, count, seed in (("train", 24, 0), ("dev", 20, 1)):
        lines = [
            f"x\t{int(row['attributes']['kind'] < 'lion')}\t\t"
            + row["completion"].replace("\n", " ")
            for row in demo_rows(count, seed=seed)
        ]
        (folder / f"{name}.tsv").write_text("\n".join(lines) + "\n")
    return str(folder)


def test_a_run_on_a_benchmark_and_its_evaluation_agree(cola, tmp_path):
    recipe = recipe_of(
        tmp_path, "classification", {"train": cola, "benchmark": "glue/cola", "train_rows": 16}
    )
    result = run(recipe, quiet=True)
    state = next((tmp_path / "run" / "checkpoints").glob("*/trainer_state.json"))
    best = json.loads(state.read_text())["best_metric"]
    assert best == result.metrics["eval_matthews"]
    found = evaluate(Who((str(result.adapter),), device="cpu"), out=tmp_path / "out", quiet=True)
    voice = found.voices[0]
    for name in ("accuracy", "matthews", "f1", "f1_macro"):
        assert voice.figures[name].value == pytest.approx(result.metrics[f"eval_{name}"])
    assert voice.confusion is not None
    assert int(voice.confusion.counts.sum()) == 20
    assert voice.confusion.classes == ("0", "1")
    assert (tmp_path / "out" / "confusion.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "out" / "confusion.svg").read_text()
    lines = (tmp_path / "out" / "answers-run.jsonl").read_text().splitlines()
    told = [json.loads(line) for line in lines]
    right = sum(line["answer"] == line["label"] for line in told)
    assert right / 20 == pytest.approx(voice.figures["accuracy"].value)
    page = (tmp_path / "out" / "report.md").read_text()
    assert "confusion.png" in page
    assert "precision" in page
    with pytest.raises(RecipeError, match="Leave out --metrics"):
        evaluate(Who((str(result.adapter),), device="cpu"), What(metrics=("bleu",)), quiet=True)


def test_rows_that_a_run_held_out_are_found_again(tmp_path):
    file = tmp_path / "rows.jsonl"
    lines = [
        json.dumps({"prompt": row["prompt"], "completion": row["completion"]})
        for row in demo_rows(30, seed=0)
    ]
    file.write_text("\n".join(lines) + "\n")
    data = {"train": str(file), "eval_share": 0.3, "max_length": 64}
    result = run(recipe_of(tmp_path, "completion", data, seed=3), quiet=True)
    found = evaluate(Who((str(result.adapter),), device="cpu"), quiet=True)
    assert found.identity["split"] == "held out"
    assert found.identity["rows"] == 9
    wanted = result.metrics["eval_loss"]
    assert found.voices[0].figures["loss"].value == pytest.approx(wanted, rel=1e-5)


def test_scores_of_pairs(tmp_path):
    folder = tmp_path / "STS-B"
    folder.mkdir()
    head = "index\tsentence1\tsentence2\tscore\n"
    for name in ("train", "dev"):
        lines = [f"{n}\tthe fox {n}\tthe mill\t{n % 5}.0" for n in range(12)]
        (folder / f"{name}.tsv").write_text(head + "\n".join(lines) + "\n")
    data = {"train": str(tmp_path), "benchmark": "glue/stsb"}
    result = run(recipe_of(tmp_path, "regression", data), quiet=True)
    found = evaluate(Who((str(result.adapter),), device="cpu"), quiet=True)
    figures = found.voices[0].figures
    assert figures.keys() == {"mse", "pearson", "spearman"}
    assert figures["pearson"].value == pytest.approx(result.metrics["eval_pearson"], abs=1e-4)
    assert len(found.voices[0].answers) == 12
