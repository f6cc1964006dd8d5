"""Answers: in the template of the training, ended where the training ended texts."""

from __future__ import annotations

import copy
import json
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSeq2SeqLM, set_seed

from families import CONFIGS
from lorakit.core.errors import RecipeError
from lorakit.demo import base_folder
from lorakit.eval import generate as module
from lorakit.eval.generate import Decoding, ask, before_end, generate, in_template, write
from lorakit.eval.session import Session, open_session
from lorakit.models.load import load_tokenizer
from lorakit.tasks.chat import turn_end, with_template
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


def written(session, prompts, decoding, **options) -> list[str]:
    found = [""] * len(prompts)
    for batch in write(session.model, session.tokenizer, prompts, decoding, **options):
        for place, answer in batch:
            found[place] = answer
    return found


def test_beams_find_answers_at_least_as_likely_in_any_batch(session):
    prompts = ["Once there was a fox", "The old mill", "In the", "Anna and Tom went to the sea"]
    greedy, beams = Decoding(max_new_tokens=8), Decoding(max_new_tokens=8, beams=4)
    assert written(session, prompts, greedy) == generate(
        session.model, session.tokenizer, prompts, max_new_tokens=8
    )
    found = written(session, prompts, beams, batch_size=3)
    assert found == written(session, prompts, beams, batch_size=1)
    totals = [
        sum(map(log_likelihood, [session] * 4, prompts, answers))
        for answers in (found, written(session, prompts, greedy))
    ]
    assert totals[0] >= totals[1] - 1e-3


def log_likelihood(session, prompt: str, answer: str) -> float:
    ids = session.tokenizer(prompt + answer, return_tensors="pt")["input_ids"]
    start = len(session.tokenizer(prompt)["input_ids"])
    with torch.no_grad():
        scores = session.model(ids).logits[0, :-1].log_softmax(-1)
    return float(scores.gather(1, ids[0, 1:, None])[start - 1 :].sum())


def test_an_answer_may_repeat_its_prompt_but_not_itself(session):
    forbid = Decoding(no_repeat_ngram=2).processors(3)
    scores = forbid(torch.tensor([[5, 6, 7, 5]]), torch.zeros(1, 9))
    assert scores.isfinite().all()  # 5 6 stands in the prompt alone
    scores = forbid(torch.tensor([[5, 6, 7, 5, 6, 5]]), torch.zeros(1, 9))
    assert scores.isinf().nonzero().tolist() == [[0, 6]]
    free = written(session, ["the fox and"], Decoding(max_new_tokens=30, no_repeat_ngram=1))[0]
    tokens = session.tokenizer(free, add_special_tokens=False)["input_ids"]
    assert len(tokens) == len(set(tokens)) > 20


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_encoder_decoders_answer_the_same_in_any_batch(session, family):
    config = CONFIGS[family]()
    config.vocab_size, config.pad_token_id = len(session.tokenizer), 0
    set_seed(0)
    model = AutoModelForSeq2SeqLM.from_config(config).eval()
    prompts = ["Once there was a fox", "The old mill", "In the"]
    for beams in (1, 3):
        decoding = Decoding(max_new_tokens=6, beams=beams)
        both = Session(model, session.tokenizer)
        found = written(both, prompts, decoding, batch_size=3)
        assert found == written(both, prompts, decoding, batch_size=1)
        assert len(found) == 3


def test_beams_and_a_temperature_contradict_each_other(session):
    with pytest.raises(RecipeError, match="Set one of them"):
        written(session, ["a"], Decoding(beams=2, temperature=1.0))
    most = session.model.config.max_position_embeddings
    with pytest.raises(RecipeError, match=f"can place {most} tokens"):
        written(session, ["a"], Decoding(max_new_tokens=most))


def test_a_prompt_without_room_loses_its_beginning(session):
    most = session.model.config.max_position_embeddings
    decoding = Decoding(max_new_tokens=4)
    long = "word " * most + "the old mill"
    first, *rest = session.tokenizer(long)["input_ids"]
    ids = [first, *rest[-(most - 5) :]]  # behind the token that every text begins with
    with torch.no_grad():
        best = session.model(torch.tensor([ids])).logits[0, -1].argmax()
    answer = written(session, [long], decoding)[0]
    assert answer.strip().startswith(session.tokenizer.decode([best]).strip())


def test_the_template_of_a_benchmark_is_known():
    tokenizer = load_tokenizer(str(base_folder()))
    recipe = {"task": "completion", "data": {"benchmark": "e2e"}}
    assert in_template("name[A]", recipe, tokenizer) == "name[A]\n"


def test_a_turn_ends_as_its_template_says():
    tokenizer = load_tokenizer(str(base_folder()))
    own = tokenizer.chat_template
    assert turn_end(with_template(tokenizer, "chatml")) == "<|im_end|>"
    plain = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    assert turn_end(with_template(tokenizer, plain)) == ""
    assert tokenizer.chat_template == own  # another adapter's may be another


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


def test_a_chat_begins_as_in_training(monkeypatch):
    """A template writes all that a conversation begins with: no token is put before it."""
    tokenizer = load_tokenizer(str(base_folder()))
    tokenizer.add_bos_token = True
    form = "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}"
    talk = with_template(tokenizer, form)
    recipe = {"task": "chat", "data": {"chat_template": talk.chat_template}}
    session = SimpleNamespace(
        model="model", tokenizer=tokenizer, runs={"a": {"recipe": recipe}}, voices={"a": "a"}
    )
    seen = []

    def note(model, own, texts, **how):
        seen.append((texts[0], how["whole"], own.chat_template == talk.chat_template))
        return ["answer"]

    monkeypatch.setattr(module, "generate", note)
    ask(session, ["why?"])
    assert seen == [(f"{tokenizer.bos_token}why?", True, True)]
    assert tokenizer.chat_template != talk.chat_template


def test_a_bases_own_way_of_writing_does_not_count(session):
    prompts = ["name[Mira], place["]
    plain = written(session, prompts, Decoding(24))
    own = copy.deepcopy(session.model.generation_config)
    session.model.generation_config.repetition_penalty = 3.0
    session.model.generation_config.min_length = 200
    try:
        assert written(session, prompts, Decoding(24)) == plain
    finally:
        session.model.generation_config = own


def test_an_end_that_is_no_special_token_is_no_part_of_the_answer():
    ids = torch.tensor([5, 7, 9, 7])
    assert before_end(ids, 7).tolist() == [5]
    assert before_end(ids, 5, begin=1).tolist() == [5, 7, 9, 7]
    assert before_end(ids, 7, begin=2).tolist() == [5, 7, 9]
    assert before_end(ids, None).tolist() == ids.tolist()
