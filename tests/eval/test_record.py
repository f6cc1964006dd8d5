"""What is kept of an evaluation, and what may be gone on with."""

from __future__ import annotations

import json

import pytest

from lorakit.core.errors import ResumeError, SaveError
from lorakit.eval.record import Answers, check_same, file_of, recorded, write_identity

PROMPTS = ["one", "two", "three"]
IDENTITY = {"task": "completion", "adapters": {"a": "12"}, "decoding": {"beams": 1}}


def test_answers_are_in_the_file_as_they_are_written(tmp_path):
    file = tmp_path / "answers.jsonl"
    answers = Answers(PROMPTS, file)
    answers.add([(2, "drei\n"), (0, "eins")])
    assert [json.loads(line)["answer"] for line in file.read_text().splitlines()] == [
        "drei\n", "eins"
    ]  # fmt: skip
    again = Answers(PROMPTS, file)
    assert again.found == {2: "drei\n", 0: "eins"}
    assert again.missing() == [1]


@pytest.mark.parametrize("cut", [1, 5, 30])
def test_a_torn_last_line_is_written_again(cut, tmp_path):
    file = tmp_path / "answers.jsonl"
    answers = Answers(PROMPTS, file)
    answers.add([(2, "drei")])
    whole = file.read_bytes()
    answers.add([(0, "eins")])
    file.write_bytes(file.read_bytes()[:-cut])
    again = Answers(PROMPTS, file)
    assert again.missing() == [0, 1]
    assert file.read_bytes() == whole
    again.add([(0, "eins"), (1, "zwei")])
    assert Answers(PROMPTS, file).missing() == []


@pytest.mark.parametrize(
    "line",
    [
        "{", "[]", '{"row": 1, "prompt": "other", "answer": "x"}',
        '{"row": 9, "prompt": "one", "answer": "x"}', '{"row": 0, "prompt": "one", "answer": 3}',
        '{"row": -3, "prompt": "one", "answer": "x"}',
    ],
)  # fmt: skip
def test_other_damage_is_an_error(line, tmp_path):
    file = tmp_path / "answers.jsonl"
    Answers(PROMPTS, file).add([(1, "zwei")])
    with file.open("a") as stream:
        stream.write(line + "\n")
    before = file.read_bytes()
    with pytest.raises(ResumeError, match="line 2 is no answer of this evaluation"):
        Answers(PROMPTS, file)
    assert file.read_bytes() == before


def test_a_folder_is_used_once_unless_resumed(tmp_path):
    folder = tmp_path / "out"
    assert recorded(folder, resume=False) is None
    assert recorded(folder, resume=True) is None
    write_identity(folder, IDENTITY)
    with pytest.raises(SaveError, match="Pass --resume"):
        recorded(folder, resume=False)
    old = recorded(folder, resume=True)
    assert old == IDENTITY
    check_same(folder, old, IDENTITY)
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(SaveError, match="holds no evaluation"):
        recorded(tmp_path, resume=True)
    (folder / "identity.json").write_text("{")
    with pytest.raises(ResumeError, match="damaged"):
        recorded(folder, resume=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"decoding": {"beams": 4}}, r"decoding.beams was 1 and is 4"),
        ({"adapters": {"a": "13"}}, r"adapters.a was '12' and is '13'"),
        ({"task": "chat"}, r"task was 'completion' and is 'chat'"),
    ],
)
def test_another_evaluation_is_told_apart(change, message, tmp_path):
    with pytest.raises(ResumeError, match=message):
        check_same(tmp_path, IDENTITY, {**IDENTITY, **change})


def test_every_voice_has_a_file_of_its_own(tmp_path):
    voices = ["base", "a b", "a-b", "../x"]
    files = [file_of(tmp_path, voice, voices, "answers", ".jsonl") for voice in voices]
    assert len({file.name.casefold() for file in files}) == 4
    assert all(file.parent == tmp_path for file in files)
    assert files[0].name == "answers-base.jsonl"
