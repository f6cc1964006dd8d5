"""Chat: conversations in the tokenizer's own template; the loss counts the assistant's turns."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import jinja2

from lorakit.core.errors import ODDITIES, DataError, RecipeError
from lorakit.tasks.base import IGNORED, Features, TokenTask
from lorakit.tasks.rows import Row, Source, read_text
from lorakit.tasks.shapes import conversation

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


class ChatTask(TokenTask):
    """Rows of messages for a causal language model."""

    name: ClassVar[str] = "chat"
    kind: ClassVar[str] = "causal"

    def read(self, rows: Sequence[Row], *, training: bool) -> list[list[dict[str, str]]]:
        messages = conversation(self.options.messages, rows[0])
        return [messages(row) for row in rows]

    def encode(self, examples: Sequence[Any], tokenizer: Any, longest: int) -> list[Features]:
        tokenizer = with_template(tokenizer, self.options.chat_template)
        return [self._encode(messages, tokenizer, longest) for messages in examples]

    def _encode(self, messages: list[dict[str, str]], tokenizer: Any, longest: int) -> Features:
        text, spans = assistant_spans(messages, tokenizer)
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ids = list(encoded["input_ids"])
        labels = [
            token if any(start < b and a < end for start, end in spans) else IGNORED
            for token, (a, b) in zip(ids, encoded["offset_mapping"])
        ]
        if len(ids) > longest:
            self.cut += 1
        ids, labels = ids[:longest], labels[:longest]
        return {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": labels}


def with_template(tokenizer: Any, said: str | None) -> Any:
    """The tokenizer with the recipe's template, as one of its own; without one it needs one."""
    tokenizer = copy.copy(tokenizer)  # which other adapters use with other templates
    if said == "chatml":
        tokenizer.chat_template = CHATML
    elif said is not None:
        file = template_file(said)
        if file is not None and not file.is_file():
            raise RecipeError(f"data.chat_template: {said} is not there, and it is no template.")
        tokenizer.chat_template = said if file is None else read_text(file, Source())
    elif not tokenizer.chat_template:
        raise RecipeError(
            "The base's tokenizer has no chat template. Set data.chat_template to chatml, or to "
            "the file of a template."
        )
    if not tokenizer.is_fast:
        raise RecipeError("The base's tokenizer is a slow one, which cannot tell turns apart.")
    return tokenizer


def template_file(said: str) -> Path | None:
    """The file that a recipe's chat_template names; None where it is a template itself."""
    # A template has braces or line ends, which no one has in the name of a file.
    return None if said == "chatml" or "{" in said or "\n" in said else Path(said).expanduser()


def assistant_spans(
    messages: list[dict[str, str]], tokenizer: Any
) -> tuple[str, list[tuple[int, int]]]:
    """The conversation as text, and where in it (from, to) the assistant's turns stand.

    A turn is what the template writes after its own generation prompt, its end mark included.
    """
    text = render(messages, tokenizer)
    spans = []
    for number, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        after = render(messages[: number + 1], tokenizer)
        before = before_turn(messages, number, tokenizer)
        if not text.startswith(before) or not text.startswith(after):
            raise DataError(
                "The chat template writes earlier turns differently once later ones follow, so the "
                "assistant's turns cannot be told apart. Set data.chat_template to chatml."
            )
        spans.append((len(before), len(after)))
    return text, spans


def before_turn(messages: list[dict[str, str]], number: int, tokenizer: Any) -> str:
    """What the template writes before the assistant's turn of this number, its prompt included."""
    if number:
        return render(messages[:number], tokenizer, generation=True)
    # Few templates can write a prompt without a turn before it: it is what a question's has more.
    question = [{"role": "user", "content": "a question"}]
    asked = render(question, tokenizer, generation=True)
    prompt = asked.removeprefix(render(question, tokenizer)) or asked
    head, found, _ = render(messages[:1], tokenizer).partition(prompt)
    return head + found if found else ""


def turn_end(tokenizer: Any) -> str:
    """What the tokenizer's template writes after an answer, without the space around it."""
    answer = "the answer"
    talk = [{"role": "user", "content": "a question"}, {"role": "assistant", "content": answer}]
    return render(talk, tokenizer).rpartition(answer)[2].strip()


def render(messages: list[dict[str, str]], tokenizer: Any, *, generation: bool = False) -> str:
    """The messages in the tokenizer's template."""
    try:
        text = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=generation
        )
        text.encode()  # a template can escape half of a pair, which no tokenizer takes
        return text
    except (jinja2.TemplateError, *ODDITIES) as error:
        raise DataError(
            f"The chat template refuses a conversation ({str(error)[:300]}). Its roles are "
            f"{', '.join(message['role'] for message in messages)}. Repair it, or use chatml."
        ) from error
