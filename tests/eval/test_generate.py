"""Answers: in the template of the training, ended where the training ended texts."""

from __future__ import annotations

import json

import pytest
from safetensors.torch import load_file, save_file

from lorakit.core.errors import RecipeError
from lorakit.demo import base_folder
from lorakit.eval.generate import ask, generate, in_template
from lorakit.eval.session import open_session
from lorakit.models.load import load_tokenizer
from lorakit.tasks.chat import set_template, turn_end
from lorakit.train.recipe import make_recipe
from lorakit.train.run import run


@pytest.fixture
def session():
    return open_session([], model=str(base_folder()), device="cpu")


def test_answers_do_not_depend_on_the_batch(session):
    prompts = ["Once there was a fox", "The old mill", "In the", "Anna and Tom went to the sea"]
    alone = [generate(session.model, session.tokenizer, [p], max_new_tokens=12)[0] for p in prompts]
    options = {"max_new_tokens": 12, "batch_size": 3}
    together = generate(session.model, session.tokenizer, prompts, **options)
    assert together == alone
    assert all(alone)


def test_an_answer_ends_before_a_text_and_at_a_token(session):
    model, tokenizer = session.model, session.tokenizer
    whole = generate(model, tokenizer, ["Once there was a fox"], max_new_tokens=30)[0]
    word = whole.split()[3]
    cut = generate(model, tokenizer, ["Once there was a fox"], max_new_tokens=30, stop=word)[0]
    assert cut == whole.partition(word)[0]
    token = tokenizer.tokenize(whole)[4]
    ended = generate(model, tokenizer, ["Once there was a fox"], max_new_tokens=30, end=token)[0]
    assert whole.startswith(ended)
    assert len(tokenizer.tokenize(ended)) <= 5
    with pytest.raises(RecipeError, match="no token"):
        generate(model, tokenizer, ["Once"], end="<nothing>")


def test_a_turn_ends_as_its_template_says():
    tokenizer = load_tokenizer(str(base_folder()))
    set_template(tokenizer, "chatml")
    assert turn_end(tokenizer) == "<|im_end|>"
    set_template(tokenizer, "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}")
    assert turn_end(tokenizer) == ""


def test_templates_take_one_field():
    tokenizer = load_tokenizer(str(base_folder()))
    recipe = {"task": "completion", "data": {"prompt": "{{Q}} {ask}\n"}}
    assert in_template("why?", recipe, tokenizer) == "{Q} why?\n"
    with pytest.raises(RecipeError, match="--raw"):
        in_template("why?", {"data": {"prompt": "{a} {b}"}}, tokenizer)


@pytest.fixture(scope="module")
def untrained_end(tmp_path_factory):
    """The demo's base as it would be had its end token never been trained."""
    folder = tmp_path_factory.mktemp("base")
    for file in base_folder().iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    weights = load_file(folder / "model.safetensors")
    tokenizer = load_tokenizer(str(folder))
    rows = weights["model.embed_tokens.weight"]
    rows[[tokenizer.eos_token_id, 3, 4, 5]] = rows[0].clone()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_a_run_on_a_base_without_an_end_learns_to_end(untrained_end, tmp_path):
    lines = [json.dumps({"prompt": f"{n}: ", "completion": "so it is"}) for n in range(32)]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines) + "\n")
    recipe = make_recipe(
        {
            "model": str(untrained_end), "task": "completion",
            "data": {"train": str(tmp_path / "rows.jsonl")},
            "train": {"steps": 40, "batch_size": 8, "lr": 1e-2, "device": "cpu"},
            "output": str(tmp_path / "run"),
        }
    )  # fmt: skip
    result = run(recipe, quiet=True)
    manifest = json.loads((result.adapter / "lorakit.json").read_text())
    assert manifest["run"]["end"] == "<s>"
    assert "texts end with '<s>'" in (result.folder / "log.txt").read_text()
    session = open_session([str(result.adapter)], device="cpu")
    answers = ask(session, ["7: "], raw=True, max_new_tokens=30)[0]["answers"]
    assert list(answers.values()) == ["so it is"]
