"""The tab that tries: the same input to the base and to adapters, side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from lorakit.core.errors import LorakitError
from lorakit.eval.generate import Decoding, in_template
from lorakit.eval.predict import predict
from lorakit.eval.session import Session, about, adapter_folder
from lorakit.eval.stream import stream
from lorakit.tasks.chat import render, turn_end, with_template
from lorakit.web.place import Place
from lorakit.web.told import caught
from lorakit.web.voices import Asked, Voice, Voices

if TYPE_CHECKING:
    from lorakit.train.recipe import Recipe

Turns = list[dict[str, str]]
CARD = '<section class="voice {}" aria-label="{}"><h4>{}</h4>{}<p>{}</p>{}</section>'


@dataclass(frozen=True)
class Question:
    """What is asked, of whom, and how answers are written; `turns` are those before, by voice."""

    text: str
    adapters: Sequence[Asked]
    base: str | None = None
    with_base: bool = True
    together: bool = False
    raw: bool = False
    decoding: Decoding = field(default_factory=Decoding)


@dataclass
class Answer:
    """One voice's answer so far."""

    label: str
    text: str = ""
    done: bool = False
    share: float | None = None


def answers(voices: Voices, question: Question, turns: dict[str, Turns]) -> Iterator[list[Answer]]:
    """The answers of every voice as they grow, again and again until all are whole.

    Raises `LorakitError` for what cannot be asked.
    """
    if not question.text.strip():
        raise LorakitError("There is no text. Write something to ask.")
    with voices.of(
        question.adapters, base=question.base, with_base=question.with_base,
        together=question.together,
    ) as (session, cast):  # fmt: skip
        found = [Answer(own.label) for own in cast]
        if hasattr(session.model, "generate") and session.labels is None:
            for own, answer in zip(cast, found):
                for text in _written(session, own, question, turns.get(own.label, [])):
                    answer.text = text
                    yield found
                answer.text, answer.done = answer.text.strip(), True
                yield found
            return
        asked = replace(session, voices={own.label: next(iter(own.names), None) for own in cast})
        given = predict(asked, [(question.text, None)])[0]["answers"]
        for answer in found:
            said = given[answer.label]
            answer.text = said["label"] if "label" in said else f"{said['score']:.4g}"
            answer.share, answer.done = said.get("probability"), True
        yield found


def _written(session: Session, voice: Voice, question: Question, turns: Turns) -> Iterator[str]:
    recipe = voice.run.get("recipe", {})
    decoding = replace(question.decoding, end=voice.run.get("end"))
    prompt, tokenizer = question.text, session.tokenizer
    if recipe.get("task") == "chat" and not question.raw:
        tokenizer = with_template(tokenizer, (recipe.get("data") or {}).get("chat_template"))
        said = [*turns, {"role": "user", "content": question.text}]
        prompt = render(said, tokenizer, generation=True)
        decoding = replace(decoding, stop=turn_end(tokenizer), whole=True)
    elif not question.raw:
        prompt = in_template(question.text, recipe, session.tokenizer)
    yield from stream(session.model, session.tokenizer, prompt, decoding, adapters=voice.names)


def cards(found: Sequence[Answer], turns: dict[str, Turns], *, asked: str = "") -> str:
    """The answers side by side, each under the turns before it."""
    shown = Markup("").join(
        Markup(CARD).format(
            "done" if own.done else "writes", own.label, own.label,
            _turns(turns.get(own.label, []), asked), own.text or ("" if own.done else "…"),
            "" if own.share is None else Markup('<small>with {:.1%}</small>').format(own.share),
        )
        for own in found
    )  # fmt: skip
    return str(Markup('<div class="voices" aria-live="polite">{}</div>').format(shown))


def _turns(turns: Turns, asked: str) -> Markup:
    said = [*turns, {"role": "user", "content": asked}] if asked else turns
    return Markup("").join(
        Markup('<p class="turn {}">{}</p>').format(own["role"], own["content"]) for own in said
    )


def is_chat(folder: Path) -> bool:
    """Whether an adapter was trained to answer in conversations."""
    with caught():
        run = about(adapter_folder(str(folder)))[2]
        return bool(run.get("recipe", {}).get("task") == "chat")
    return False


def example(folder: Path, place: Place) -> str:
    """A prompt as the adapter's training had them: the first of its evaluation or training rows.

    Nothing where these are not below the page's roots: what a file says is no permission to read.
    """
    from lorakit.train.recipe import make_recipe

    with caught():
        told = about(adapter_folder(str(folder)))[2].get("recipe") or {}
        return first_prompt(make_recipe(told), place)
    return ""


def first_prompt(recipe: Recipe, place: Place) -> str:
    """What the first evaluation row of a recipe asks, or nothing where that is not one text."""
    from lorakit.tasks.data import eval_place, split_rows

    with caught():
        rows = place.inside(eval_place(recipe.data) or recipe.data.train)
        row = split_rows(recipe.data, str(rows), "eval", 1)[0]
        return _shown(recipe, row)
    return ""


def _shown(recipe: Any, row: Any) -> str:
    from string import Formatter

    template = recipe.data.prompt
    if template:
        names = [name for _, name, _, _ in Formatter().parse(template) if name is not None]
        return str(row.fields.get(names[0], "")) if len(names) == 1 else ""
    for name in (recipe.data.text, "prompt", "text", "question", "instruction", "sentence"):
        if name and isinstance(row.fields.get(name), str):
            return row.fields[name]
    return ""
