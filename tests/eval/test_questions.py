"""From rows to questions with all their references."""

from __future__ import annotations

import pytest

from lorakit.core.errors import DataError, RecipeError
from lorakit.demo import base_folder
from lorakit.eval.marks import lacks, mark, signatures
from lorakit.eval.questions import Question, group_rows, questions, settle
from lorakit.metrics import score
from lorakit.models.load import load_tokenizer
from lorakit.tasks import make_task
from lorakit.tasks.options import DataOptions
from lorakit.tasks.rows import Row


def rows(*fields: dict) -> list[Row]:
    return [Row(value, "rows.jsonl", number, "line") for number, value in enumerate(fields, 1)]


def asked(name: str, *fields: dict, **options) -> list[Question]:
    task = make_task(name, DataOptions(train="x", **options))
    given = rows(*fields)
    tokenizer = load_tokenizer(str(base_folder()))
    return questions(given, group_rows(given, task), task, tokenizer)


def test_rows_of_one_prompt_are_one_question():
    found = asked(
        "completion", {"prompt": "a", "completion": "x"}, {"prompt": "b", "completion": "y"},
        {"prompt": "a", "completion": "z"}, {"prompt": "a", "completion": "x"},
    )  # fmt: skip
    assert [(q.prompt, q.references) for q in found] == [("a", ("x", "z")), ("b", ("y",))]


def test_rows_of_one_meaning_are_one_question_in_its_benchmark():
    found = asked(
        "completion", {"mr": "name[A]", "ref": "A."}, {"mr": "name[B]", "ref": "B."},
        {"mr": "name[A]", "ref": "It is A."}, benchmark="e2e",
    )  # fmt: skip
    assert [q.references for q in found] == [("A.", "It is A."), ("B.",)]
    assert found[0].prompt == "name[A]\n"
    # Two entries with the same triples stay two questions: the benchmark counts them so.
    same = {"triples": "a | b | c", "category": "City"}
    found = asked(
        "seq2seq", {**same, "entry": "1", "text": "x"}, {**same, "entry": "2", "text": "y"},
        benchmark="webnlg",
    )  # fmt: skip
    assert len(found) == 2


def test_all_answers_of_a_question_and_none():
    base = {"context": "c", "question": "q"}
    found = asked(
        "completion", {**base, "answers": ["in May", "May"], "answer": "in May"},
        {**base, "answers": ["unanswerable"], "answer": "unanswerable"}, benchmark="squad/v2",
    )  # fmt: skip
    assert [q.references for q in found] == [("in May", "May"), ()]
    task = make_task("completion", DataOptions(train="x", benchmark="squad/v2"))
    said = [settle(answer, task) for answer in (" May", "Unanswerable.")]
    assert said == ["May", ""]
    figures = mark(["squad_em", "squad_f1"], said, found)
    assert figures["squad_em"].value == figures["squad_f1"].value == 100.0
    plain = make_task("completion", DataOptions(train="x"))
    assert settle("Unanswerable.", plain) == "Unanswerable."


def test_conversations_are_asked_up_to_the_last_turn_of_the_assistant():
    turns = [("user", "one"), ("assistant", "two"), ("user", "three"), ("assistant", "four")]
    row = {"messages": [{"role": r, "content": c} for r, c in turns]}
    (found,) = asked("chat", row, chat_template="chatml")
    assert found.references == ("four",)
    assert "two" in found.prompt
    assert "four" not in found.prompt
    assert found.prompt.endswith("<|im_start|>assistant\n")


def test_a_conversation_that_the_assistant_opens_is_asked_as_it_is_trained():
    row = {"messages": [{"role": "assistant", "content": "hello"}]}
    (found,) = asked("chat", row, chat_template="chatml")
    assert (found.prompt, found.references) == ("<|im_start|>assistant\n", ("hello",))


def test_classes_have_no_written_answers():
    with pytest.raises(RecipeError, match="Leave out --metrics"):
        asked("classification", {"text": "a", "label": 1})


def test_marks_are_the_metrics_with_intervals():
    given = [
        Question("a", ("the cat sat on the mat", "a cat sat"), {}),
        Question("b", ("it rains in spring today",), {}),
        Question("c", ("no one came to the old house",), {}),
    ]
    answers = ["the cat sat on a mat", "it rains in May today", "no one came to the house"]
    names = ["bleu", "rouge_l", "chrf"]
    found = mark(names, answers, given)
    plain = score(names, answers, [question.references for question in given])
    assert {name: one.value for name, one in found.items()} == pytest.approx(plain)
    for one in found.values():
        assert one.low is not None
        assert one.high is not None
        assert one.low <= one.value <= one.high
        assert one.rows == 3
    assert "sacrebleu" in signatures(names, given)["bleu"]


def test_slots_are_read_from_the_meaning():
    fields = {"mr": "name[Aromi], area[riverside]"}
    given = [Question("p", ("x",), fields), Question("p", ("x",), fields)]
    found = mark(["slots"], ["Aromi is in the riverside area.", "Aromi is nice."], given)
    assert found["slot_accuracy"].value == pytest.approx(0.75)
    assert found["slots_all_right"].value == pytest.approx(0.5)
    with pytest.raises(DataError, match="evaluate on E2E"):
        mark(["slots"], ["x"], [Question("p", ("x",), {})])
    assert lacks("slots") is None
    with pytest.raises(RecipeError, match="'bleu'"):
        lacks("blue")
