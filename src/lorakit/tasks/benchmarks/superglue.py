"""SuperGLUE (Wang et al., 2019): its tasks that are a choice of label, in its JSON lines."""

from __future__ import annotations

from lorakit.tasks.benchmarks.base import Benchmark, Hub

SPLIT = {"train": ("train.jsonl",), "dev": ("val.jsonl", "dev.jsonl"), "test": ("test.jsonl",)}


def _super(
    name: str, about: str, text: str, pair: str, *, labels: tuple[str, ...] = (),
    metrics: tuple[str, ...] = ("accuracy",),
) -> Benchmark:  # fmt: skip
    sets = {"text": text, "pair": pair, "label": "label"}
    return Benchmark(
        f"superglue/{name.lower()}", about, ("classification",), SPLIT, sets, metrics,
        folder=name, hub=Hub(labels=labels),
    )  # fmt: skip


BENCHMARKS = (
    _super("BoolQ", "yes or no, by a passage", "question", "passage", labels=("False", "True")),
    _super(
        "CB", "entailment of embedded clauses", "premise", "hypothesis",
        labels=("entailment", "contradiction", "neutral"), metrics=("accuracy", "f1_macro"),
    ),
    _super(
        "COPA", "the likelier cause or effect", "{premise} What was the {question}?",
        "0: {choice1} 1: {choice2}",
    ),
    _super("RTE", "entailment", "premise", "hypothesis", labels=("entailment", "not_entailment")),
    _super(
        "WiC", "same meaning of a word", "{word}: {sentence1}", "{word}: {sentence2}",
        labels=("False", "True"),
    ),
)  # fmt: skip
