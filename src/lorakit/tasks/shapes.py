"""The shapes that people's rows have, and which field of each means what."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lorakit.core.errors import RecipeError, shortlist
from lorakit.tasks.rows import Row
from lorakit.tasks.templates import check_template, fill, text_of, value_of

Reader = Callable[[Row], str]

# Fields of a prompt and what follows it, the first that a row has.
PAIRS = (
    ("prompt", "completion"),
    ("prompt", "response"),
    ("instruction", "output"),  # Alpaca: an `input` that is not empty belongs to the prompt
    ("instruction", "response"),
    ("question", "answer"),
    ("source", "target"),
    ("document", "summary"),
    ("article", "highlights"),
    ("input", "output"),
)
TEXTS = ("text", "sentence", "content", "review", "question", "title")
TEXT_PAIRS = (
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question", "sentence"),
    ("question1", "question2"),
    ("text1", "text2"),
    ("#1 String", "#2 String"),  # MRPC
)
LABELS = ("label", "labels", "class", "category", "target", "intent", "sentiment", "Quality")
SCORES = ("score", "label", "labels", "target", "rating", "similarity", "value")
CONVERSATIONS = ("messages", "conversations", "conversation", "dialog", "dialogue")
_ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant"}


def reader(said: str, where: str) -> Reader:
    """A reader of the field or template that the recipe names."""
    if "{" in said:
        check_template(said, where)
        return lambda row: fill(said, row, where)
    return lambda row: text_of(row, said, where)


def prompt_and_completion(
    prompt: str | None, completion: str | None, first: Row
) -> tuple[Reader, Reader]:
    """Readers of the two halves: by the recipe's templates, else by the shape of the first row."""
    if prompt is not None and completion is not None:
        return reader(prompt, "data.prompt"), reader(completion, "data.completion")
    shape = next((pair for pair in PAIRS if set(pair) <= first.fields.keys()), None)
    if shape is None:
        raise unknown_shape(first, "a prompt and a completion", 'data.prompt: "{...}\\n"')
    asked, answered = shape
    if asked == "instruction":
        always = "input" in first.fields  # whoever has no input is written as those that have one

        def prompt_of(row: Row) -> str:
            has = always or bool(row.fields.get("input"))
            return _alpaca(row) if has else text_of(row, asked, "the prompt")

        return prompt_of, lambda row: text_of(row, answered, "the completion")
    return (
        lambda row: text_of(row, asked, "the prompt"),
        lambda row: text_of(row, answered, "the completion"),
    )


def text_and_pair(text: str | None, pair: str | None, first: Row) -> tuple[Reader, Reader | None]:
    """Readers of one text or two."""
    if text is not None:
        return reader(text, "data.text"), None if pair is None else reader(pair, "data.pair")
    two = next((names for names in TEXT_PAIRS if set(names) <= first.fields.keys()), None)
    if two is not None:
        return reader(two[0], "the text"), reader(two[1], "the second text")
    one = next((name for name in TEXTS if name in first.fields), None)
    if one is None:
        raise unknown_shape(first, "a text", "data.text: FIELD")
    return reader(one, "the text"), None


def field(said: str | None, known: tuple[str, ...], first: Row, what: str) -> str:
    """The name of the field that holds the label, score or conversation."""
    if said is not None:
        value_of(first, said, what)
        return said
    found = next((name for name in known if name in first.fields), None)
    if found is None:
        raise unknown_shape(first, what, "data.label: FIELD")
    return found


def conversation(said: str | None, first: Row) -> Callable[[Row], list[dict[str, str]]]:
    """A reader of messages with role and content, from any shape that holds a conversation."""
    name = said or next((name for name in CONVERSATIONS if name in first.fields), None)
    if name is not None:
        return lambda row: _messages(row, name)
    asked, answered = prompt_and_completion(None, None, first)
    return lambda row: [
        {"role": "user", "content": asked(row)},
        {"role": "assistant", "content": answered(row)},
    ]


def unknown_shape(first: Row, what: str, option: str) -> RecipeError:
    """The error for rows in which the recipe's task finds nothing."""
    have = shortlist(map(str, first.fields), 8)
    return RecipeError(
        f"{first.file}: no known field for {what} among {have}. Say which it is in the recipe, as "
        f"in `{option}`."
    )


def _alpaca(row: Row) -> str:
    instruction = text_of(row, "instruction", "the prompt")
    more = text_of(row, "input", "the prompt") if row.fields.get("input") is not None else ""
    return f"{instruction}\n\n{more}\n\n" if more.strip() else f"{instruction}\n\n"


def _messages(row: Row, name: str) -> list[dict[str, str]]:
    turns = value_of(row, name, "the conversation")
    if not isinstance(turns, list) or not turns:
        raise row.error(f"{name} is {_kind(turns)}; expected a list of messages.")
    found = [_message(row, name, number, turn) for number, turn in enumerate(turns, 1)]
    system = row.fields.get("system")
    if isinstance(system, str) and system and found[0]["role"] != "system":
        found.insert(0, {"role": "system", "content": system})
    if not any(turn["role"] == "assistant" for turn in found):
        raise row.error(f"{name} has no turn of the assistant, so there is nothing to learn.")
    return found


def _message(row: Row, name: str, number: int, turn: Any) -> dict[str, str]:
    where = f"{name}, message {number}"
    if not isinstance(turn, Mapping):
        raise row.error(f"{where} is {_kind(turn)}; expected role and content.")
    role = turn.get("role", turn.get("from"))
    content = turn.get("content", turn.get("value"))
    if isinstance(content, list) and all(isinstance(part, Mapping) for part in content):
        content = "".join(str(part.get("text", "")) for part in content)
    if not isinstance(role, str) or not isinstance(content, str):
        raise row.error(f"{where} lacks text in role or content; it has {shortlist(turn)}.")
    role = _ROLES.get(role, role)
    if role not in ("system", "user", "assistant", "tool"):
        raise row.error(f"{where} has the role {role!r}; expected system, user or assistant.")
    return {"role": role, "content": content}


def _kind(value: object) -> str:
    return "empty" if value is None or value == [] else f"a {type(value).__name__}"
