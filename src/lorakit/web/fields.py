"""The recipe's fields as a form has them: which there are, when they matter, and their text."""

from __future__ import annotations

import re
import types
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin

import yaml

from lorakit.core.errors import RecipeError
from lorakit.train.options import BASELINES, OF_ALL, SIZED
from lorakit.train.recipe import fields, get_field, make_recipe, set_field, value_of

# What the page asks for by itself, or never sets.
APART = ("model", "task", "data.train", "output", "sweep")
GROUPS = {
    "Data": "data.",
    "Method and adapter": ("method", "lora."),
    "Training": "train.",
}
# Which fields of `data` a task reads, beside those that all do.
OF_TASKS = {
    "chat": ("messages", "prompt", "completion", "chat_template"),
    "classification": ("text", "pair", "label"),
    "completion": ("prompt", "completion", "end"),
    "regression": ("text", "pair", "label"),
    "seq2seq": ("prompt", "completion"),
    "text": ("text", "end"),
}
_SOME = {name for own in OF_TASKS.values() for name in own}


@dataclass(frozen=True)
class Field:
    """One field: its dotted name, what it means, its default, and its choices where it has any."""

    name: str
    about: str
    default: Any
    choices: tuple[str, ...] = ()
    is_switch: bool = False
    is_text: bool = False

    @property
    def label(self) -> str:
        """The last part of its name as words."""
        return self.name.rpartition(".")[2].replace("_", " ")

    @property
    def placeholder(self) -> str:
        """What holds where nothing is typed."""
        empty = self.default is None or self.default in ([], {}, "")
        return "not set" if empty else _flow(self.default)

    def shown(self, value: Any) -> Any:
        """A value as its component has it: text, a word, or a switch."""
        if self.choices or self.is_switch:
            return value
        if value == self.default:
            return ""
        # A line's end in a text, such as a prompt's, is written as in the docs: \n.
        return _escaped(value) if isinstance(value, str) else _flow(value)

    def read(self, shown: Any) -> Any:
        """The value that a component has; the default where it is empty. Raises `RecipeError`."""
        if self.choices or self.is_switch:
            return self.default if shown is None else shown
        text = "" if shown is None else str(shown)
        if not text.strip():
            return self.default
        return value_of(self.name, _unescaped(text) if self.is_text else text)


def form_fields() -> list[Field]:
    """Every field that the form shows, in the schema's order."""
    found = []
    for name, own in fields().items():
        if name in APART:
            continue
        default = own.get_default(call_default_factory=True)
        found.append(
            Field(
                name, own.description or "", default, _choices(own.annotation),
                own.annotation is bool, own.annotation in (str, str | None),
            )
        )  # fmt: skip
    return found


def group_of(name: str) -> str:
    """The heading under which a field stands."""
    return next(group for group, start in GROUPS.items() if name.startswith(start))


def matters(name: str, *, task: str, method: str) -> bool:
    """Whether a field has a meaning for this task and method: others are hidden."""
    part, _, last = name.rpartition(".")
    if part == "data" and last in _SOME:
        return last in OF_TASKS.get(task, _SOME)
    if part == "lora" and method in BASELINES:
        return last in OF_ALL and (last != "rank" or method in SIZED)
    if name == "train.lora_plus":
        return method not in BASELINES and method != "adalora"
    return True


def blame(name: str, message: str) -> str:
    """What a recipe's error says of this field; nothing where it is about another."""
    found = re.match(rf"(?:recipe: |--){re.escape(name)} (?:is )?(.*)", message, re.DOTALL)
    return "" if found is None else found.group(1).partition(" It means: ")[0]


def raw_of(known: list[Field], shown: list[Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's mapping with only what is not a default. Raises `RecipeError`."""
    raw: dict[str, Any] = {}
    if given["task"] not in tuple(OF_TASKS):
        raise RecipeError(f"task is {given['task']!r:.60}; expected {' or '.join(OF_TASKS)}.")
    for name in ("model", "task"):
        raw[name] = given[name]
    for own, value in zip(known, shown):
        read = own.read(value)
        if read != own.default and matters(
            own.name, task=given["task"], method=_method(known, shown)
        ):
            set_field(raw, own.name, read)
    for name, value in given.items():
        set_field(raw, name, value)
    return {name: raw[name] for name in _order() if name in raw}


def shown_of(known: list[Field], raw: Mapping[str, Any]) -> list[Any]:
    """What every component shows for a recipe's mapping. Raises `RecipeError`."""
    whole = make_recipe(raw).model_dump()
    return [own.shown(get_field(whole, own.name)) for own in known]


def as_yaml(raw: Mapping[str, Any]) -> str:
    """A recipe's mapping as the text of its file."""
    return yaml.safe_dump(dict(raw), sort_keys=False, allow_unicode=True, width=100)


def _method(known: list[Field], shown: list[Any]) -> str:
    return next(own.read(value) for own, value in zip(known, shown) if own.name == "method")


def _order() -> list[str]:
    return list(dict.fromkeys(name.partition(".")[0] for name in fields()))


def _choices(annotation: Any) -> tuple[str, ...]:
    if get_origin(annotation) is Literal:
        return tuple(get_args(annotation))
    if get_origin(annotation) in (Union, types.UnionType):
        inner = [own for own in get_args(annotation) if get_origin(own) is Literal]
        return tuple(word for own in inner for word in get_args(own))
    return ()


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t")


def _unescaped(text: str) -> str:
    known = {"n": "\n", "t": "\t", "\\": "\\"}
    return re.sub(r"\\([nt\\])", lambda own: known[own.group(1)], text)


def _flow(value: Any) -> str:
    # In the given order: of patterns for ranks the first that matches counts.
    text = yaml.safe_dump(
        value, default_flow_style=True, allow_unicode=True, width=10_000, sort_keys=False
    )
    return text.removesuffix("\n").removesuffix("\n...").strip()
