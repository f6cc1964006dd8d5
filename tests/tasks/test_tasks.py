from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

from lorakit.core.errors import LorakitError
from lorakit.demo import base_folder
from lorakit.models.load import load_tokenizer
from lorakit.models.places import places_of
from lorakit.tasks import make_task
from lorakit.tasks.base import IGNORED, collate, last_of
from lorakit.tasks.chat import CHATML
from lorakit.tasks.options import DataOptions
from lorakit.tasks.rows import Row
from lorakit.tasks.templates import check_template, fill


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(str(base_folder()))


def rows(*fields: dict) -> list[Row]:
    return [Row(value, "data.jsonl", number) for number, value in enumerate(fields, 1)]


def encoded(name: str, tokenizer, *fields: dict, longest: int = 200, **options):
    task = make_task(name, DataOptions(train="data.jsonl", **options))
    return task, task.encode(task.read(rows(*fields), training=True), tokenizer, longest)


def learned(row: dict, tokenizer) -> str:
    """The text on which the loss is counted."""
    return tokenizer.decode([label for label in row["labels"] if label != IGNORED])


@pytest.mark.parametrize(
    ("fields", "prompt"),
    [
        ({"prompt": "ask", "completion": "answer"}, "ask"),
        ({"prompt": "ask", "response": "answer"}, "ask"),
        ({"question": "ask", "answer": "answer"}, "ask"),
        ({"source": "ask", "target": "answer"}, "ask"),
        ({"instruction": "ask", "input": "", "output": "answer"}, "ask\n\n"),
        ({"instruction": "ask", "input": "this", "output": "answer"}, "ask\n\nthis\n\n"),
        ({"instruction": "ask", "output": "answer"}, "ask"),
    ],
)
def test_completion_learns_what_follows_the_prompt_alone(fields, prompt, tokenizer):
    _, (row,) = encoded("completion", tokenizer, fields)
    assert learned(row, tokenizer) == "answer" + tokenizer.eos_token
    before = [i for i, label in zip(row["input_ids"], row["labels"]) if label == IGNORED]
    assert tokenizer.decode(before, skip_special_tokens=True) == prompt
    assert len(row["input_ids"]) == len(row["labels"]) == len(row["attention_mask"])


def test_an_input_counts_in_whichever_row_it_is(tokenizer):
    rows = (
        {"instruction": "Say.", "output": "a"},
        {"instruction": "Translate.", "input": "Bonjour", "output": "b"},
    )
    _, found = encoded("completion", tokenizer, *rows)
    texts = [tokenizer.decode(row["input_ids"], skip_special_tokens=True) for row in found]
    assert texts == ["Say.a", "Translate.\n\nBonjour\n\nb"]


def test_templates_over_fields(tokenizer):
    _, (row,) = encoded(
        "completion", tokenizer, {"a": "x", "n": 3, "meta": {"b": "deep"}},
        prompt="{a} {{{n}}}\n", completion="{meta.b}",
    )  # fmt: skip
    assert learned(row, tokenizer) == "deep" + tokenizer.eos_token
    assert "x {3}\n" in tokenizer.decode(row["input_ids"])


def test_a_long_prompt_loses_its_beginning_and_a_long_answer_its_end(tokenizer):
    task, (row,) = encoded(
        "completion", tokenizer, {"prompt": "word " * 50, "completion": "answer"}, longest=20
    )
    assert len(row["input_ids"]) == 20
    assert learned(row, tokenizer) == "answer" + tokenizer.eos_token
    assert task.cut == 1
    _, (row,) = encoded(
        "completion", tokenizer, {"prompt": "ask", "completion": "word " * 50}, longest=20
    )
    assert len(row["input_ids"]) == 20


def test_an_encoders_long_input_keeps_its_end_token():
    words = WordLevel({"</s>": 0, "word": 1, "answer": 2, "?": 3}, unk_token="?")
    inner = Tokenizer(words)
    inner.pre_tokenizer = Whitespace()
    inner.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 0)])
    ending = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="</s>", unk_token="?")
    task, (row, short) = encoded(
        "seq2seq", ending, {"input": "word " * 9, "output": "answer"},
        {"input": "word", "output": "answer " * 9}, longest=5,
    )  # fmt: skip
    assert row["input_ids"] == ending("word " * 9, truncation=True, max_length=5)["input_ids"]
    assert row["input_ids"] == [1, 1, 1, 1, 0]
    assert row["labels"] == [2, 0]
    assert short["labels"] == [2] * 5  # an answer that goes on is not taught to end here
    assert task.cut == 2


@pytest.mark.parametrize("name", ["{a!r}", "{a:>9}", "{}", "{a", "}"])
def test_templates_hold_no_code(name):
    with pytest.raises(LorakitError):
        check_template(name, "data.prompt")


def test_templates_reach_no_attributes():
    with pytest.raises(LorakitError, match="no field"):
        fill("{a.__class__}", rows({"a": "x"})[0], "data.prompt")


CONVERSATIONS = [
    {"messages": [{"role": "user", "content": "ask"}, {"role": "assistant", "content": "yes"}]},
    {"conversations": [{"from": "human", "value": "ask"}, {"from": "gpt", "value": "yes"}]},
    {"prompt": "ask", "completion": "yes"},
    {"instruction": "ask", "output": "yes"},
    {"messages": [
        {"role": "user", "content": [{"type": "text", "text": "ask"}]},
        {"role": "assistant", "content": "yes"},
    ]},
]  # fmt: skip


@pytest.mark.parametrize("fields", CONVERSATIONS, ids=str)
def test_chat_learns_the_assistants_turn_and_its_end(fields, tokenizer):
    _, (row,) = encoded("chat", tokenizer, fields, chat_template="chatml")
    assert learned(row, tokenizer) == "yes<|im_end|>\n"
    assert "ask" in tokenizer.decode(row["input_ids"])


def test_chat_that_the_assistant_opens_learns_no_mark_of_the_template(tokenizer):
    turns = [("assistant", "hello"), ("user", "ask"), ("assistant", "yes")]
    fields = {"messages": [{"role": r, "content": c} for r, c in turns]}
    _, (row,) = encoded("chat", tokenizer, fields, chat_template=CHATML)
    assert learned(row, tokenizer) == "hello<|im_end|>\nyes<|im_end|>\n"
    told = "{{ '<s>system: be kind\n' }}" + CHATML  # a template with a beginning of its own
    _, (row,) = encoded("chat", tokenizer, fields, chat_template=told)
    assert learned(row, tokenizer) == "hello<|im_end|>\nyes<|im_end|>\n"


def test_chat_learns_every_turn_of_the_assistant(tokenizer):
    turns = [("user", "one"), ("assistant", "two"), ("user", "three"), ("assistant", "four")]
    fields = {"system": "be kind", "messages": [{"role": r, "content": c} for r, c in turns]}
    _, (row,) = encoded("chat", tokenizer, fields, chat_template=CHATML)
    assert learned(row, tokenizer) == "two<|im_end|>\nfour<|im_end|>\n"
    assert "be kind" in tokenizer.decode(row["input_ids"])


def test_a_template_that_rewrites_earlier_turns_is_refused(tokenizer):
    template = "{{ messages | length }}: {{ messages[-1]['content'] }}"
    with pytest.raises(LorakitError, match="differently"):
        encoded("chat", tokenizer, CONVERSATIONS[0], chat_template=template)


def test_text_is_packed_into_full_blocks(tokenizer):
    documents = [{"text": "a story of some words. " * 5}, {"text": "another one. " * 9}]
    _, blocks = encoded("text", tokenizer, *documents, longest=16)
    assert all(len(block["input_ids"]) == 16 for block in blocks[:-1])
    joined = [token for block in blocks for token in block["input_ids"]]
    assert joined.count(tokenizer.eos_token_id) >= 2
    text = tokenizer.decode(joined, skip_special_tokens=True)
    assert text.split() == "".join(document["text"] for document in documents).split()
    assert all(block["labels"] == block["input_ids"] for block in blocks)


@pytest.mark.parametrize(
    "fields",
    [
        ({"text": "a", "label": "no"}, {"text": "b", "label": "yes"}),
        ({"sentence": "a", "label": 0}, {"sentence": "b", "label": 1}),
        ({"sentence1": "a", "sentence2": "c", "label": 0},
         {"sentence1": "b", "sentence2": "d", "label": 1}),
        ({"#1 String": "a", "#2 String": "c", "Quality": "0"},
         {"#1 String": "b", "#2 String": "d", "Quality": "1"}),
    ],
    ids=["words", "numbers", "pairs", "MRPC"],
)  # fmt: skip
def test_classification(fields, tokenizer):
    task, found = encoded("classification", tokenizer, *fields)
    assert [row["labels"] for row in found] == [0, 1]
    assert len(task.labels()) == 2


def test_labels_keep_their_order_as_numbers(tokenizer):
    task, _ = encoded("classification", tokenizer, *({"text": "a", "label": n} for n in (10, 9, 2)))
    assert task.labels() == ["2", "9", "10"]


def test_regression(tokenizer):
    _, found = encoded(
        "regression", tokenizer, {"sentence1": "a", "sentence2": "b", "score": "3.5"}
    )
    assert found[0]["labels"] == 3.5


def test_batches_are_padded_on_the_right():
    batch = collate(
        [
            {"input_ids": [5, 6, 7], "attention_mask": [1, 1, 1], "labels": [5, 6, 7]},
            {"input_ids": [8], "attention_mask": [1], "labels": [8]},
        ],
        padding=0,
    )
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["labels"].tolist() == [[5, 6, 7], [8, IGNORED, IGNORED]]
    assert collate([{"input_ids": [1], "labels": 2}], padding=0)["labels"].tolist() == [2]


def test_the_loss_is_per_token_whatever_the_batches():
    task = make_task("completion", DataOptions(train="x"))
    torch.manual_seed(0)
    logits, labels = torch.randn(3, 5, 7), torch.randint(7, (3, 5))
    labels[0, :4] = IGNORED
    parts = [task.statistics(logits[i : i + 1], labels[i : i + 1]) for i in range(3)]
    found = task.metrics(torch.cat(parts).numpy(), labels.numpy())
    expected = F.cross_entropy(logits[:, :-1].reshape(-1, 7), labels[:, 1:].reshape(-1))
    assert found["loss"] == pytest.approx(float(expected), rel=1e-6)
    assert found["perplexity"] == pytest.approx(float(expected.exp()), rel=1e-5)
    counted = labels[:, 1:] != IGNORED
    hits = (logits[:, :-1].argmax(-1) == labels[:, 1:])[counted].float().mean()
    assert found["token_accuracy"] == pytest.approx(float(hits))


@pytest.mark.parametrize("classes", [2, 3])
def test_metrics_of_classes_are_scikit_learns(classes):
    sk = pytest.importorskip("sklearn.metrics")
    task = make_task("classification", DataOptions(train="x"))
    drawn = np.random.default_rng(0).integers(0, classes, (2, 60))
    drawn[1, :30] = drawn[0, :30]
    found = task.metrics(drawn[1][:, None].astype(np.float32), drawn[0])
    expected = {
        "accuracy": sk.accuracy_score(*drawn), "f1_macro": sk.f1_score(*drawn, average="macro"),
        "matthews": sk.matthews_corrcoef(*drawn),
    }  # fmt: skip
    if classes == 2:
        expected["f1"] = sk.f1_score(*drawn)
    assert found == pytest.approx(expected)


def test_metrics_of_classes_and_scores():
    classes = make_task("classification", DataOptions(train="x"))
    found = classes.metrics(np.array([[0], [1], [1]]), np.array([0, 1, 0]))
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["f1_macro"] == pytest.approx(2 / 3)
    assert found["matthews"] == pytest.approx(0.5)
    assert found["f1"] == pytest.approx(2 / 3)
    scores = make_task("regression", DataOptions(train="x"))
    found = scores.metrics(np.array([[1.0], [2.0], [4.0]]), np.array([1.0, 2.0, 3.0]))
    assert found["spearman"] == pytest.approx(1.0)
    assert found["pearson"] == pytest.approx(np.corrcoef([1, 2, 4], [1, 2, 3])[0, 1])
    assert found["mse"] == pytest.approx(1 / 3)
    flat = scores.metrics(np.array([[1.0], [1.0]]), np.array([1.0, 2.0]))
    assert flat["pearson"] == 0.0


def test_a_prompt_that_is_cut_begins_as_texts_begin():
    tokenizer = SimpleNamespace(all_special_ids=[1, 2])
    assert last_of([1, 5, 6, 7, 8], 3, tokenizer) == [1, 7, 8]
    assert last_of([5, 6, 7, 8], 3, tokenizer) == [6, 7, 8]
    assert last_of([1, 5], 3, tokenizer) == [1, 5]
    assert last_of([1, 5, 6], 1, tokenizer) == [6]
    assert last_of([1, 5, 6], 0, tokenizer) == []


def test_places_are_counted_as_the_family_counts_them():
    roberta = SimpleNamespace(model_type="roberta", max_position_embeddings=514, pad_token_id=1)
    assert places_of(roberta) == 512
    bert = SimpleNamespace(model_type="bert", max_position_embeddings=512, pad_token_id=0)
    assert places_of(bert) == 512
    assert places_of(SimpleNamespace(model_type="t5")) is None
