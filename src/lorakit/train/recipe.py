"""The recipe: one schema for the YAML file, the command line's dotted flags and the docs."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import (
    BaseModel,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from lorakit.core.errors import RecipeError, did_you_mean
from lorakit.tasks.benchmarks import benchmark_named
from lorakit.tasks.options import DataOptions, Part
from lorakit.train.options import (
    BASELINES,
    FIXED,
    OF_ALL,
    SIZED,
    LoraOptions,
    Method,
    TrainOptions,
)
from lorakit.train.strict_yaml import read_yaml

ENDED = ("completion", "text")  # the tasks whose rows are ended by us; others bring their ends


class Recipe(Part):
    """All of a run."""

    model: str = Field(description="the base: a folder or a hub id")
    task: Literal["chat", "classification", "completion", "regression", "seq2seq", "text"]
    data: DataOptions
    method: Method = Field(default="lora", description="LoRA, a variant of it, or a baseline")
    lora: LoraOptions = LoraOptions()
    train: TrainOptions = TrainOptions()
    output: str = Field(description="the run's folder")
    sweep: dict[str, list[Any]] = Field(
        default={}, description="values by field: a run for each combination"
    )

    @field_validator("sweep", mode="before")
    @classmethod
    def _swept(cls, given: Any) -> Any:
        """`{train.seed: [0, 1]}`, or the same nested, as `--sweep.train.seed` sets it."""
        return _swept(given)

    @model_validator(mode="before")
    @classmethod
    def _method(cls, given: Any) -> Any:
        """`method`, where a recipe says it as `lora.method`."""
        return with_method(given) if isinstance(given, dict) else given

    @model_validator(mode="after")
    def _fitting(self) -> Recipe:
        fresh = LoraOptions()
        said = {n for n in type(fresh).model_fields if getattr(self.lora, n) != getattr(fresh, n)}
        odd = sorted(said - set(OF_ALL)) if self.method in BASELINES else []
        if odd:
            raise ValueError(f"lora.{odd[0]} is for LoRA and its variants: {self.method} has none")
        if "rank" in said and self.method not in SIZED:
            raise ValueError(f"lora.rank is for methods of a size: {self.method} has none")
        words = self.lora.targets
        if words is not None and self.method in FIXED:
            raise ValueError(f"lora.targets is not for {self.method}, whose places are its own")
        listed = [words] if isinstance(words, str) else words or []
        if self.method in BASELINES and "all-linear" in listed:
            raise ValueError(
                "lora.targets all-linear is for LoRA and its variants: leave it out, or set it to "
                f"null, and {self.method} takes the places of its paper"
            )
        if isinstance(self.lora.rank, dict) and self.method == "top":
            raise ValueError("lora.rank is the number of top blocks here: set one number")
        if self.train.lora_plus != 1 and self.method in BASELINES:
            raise ValueError(f"train.lora_plus is for LoRA and its variants, not {self.method}")
        return self

    @model_validator(mode="after")
    def _together(self) -> Recipe:
        if self.data.benchmark is not None:
            benchmark_named(self.data.benchmark).check_task(self.task)
        elif (self.data.prompt is None) != (self.data.completion is None):
            raise ValueError("data.prompt and data.completion go together: set both or none")
        if self.lora.init == "loftq" and self.train.quantise == "none":
            raise ValueError("lora.init loftq makes up for quantisation: set train.quantise")
        if self.lora.params is not None and isinstance(self.lora.rank, dict):
            raise ValueError("lora.params deals out ranks, and lora.rank does as well: set one")
        if self.lora.params is not None and self.method in ("vera", "adalora"):
            raise ValueError(f"lora.params is not for {self.method}: set lora.rank")
        if self.method == "adalora" and self.train.lora_plus != 1:
            raise ValueError("train.lora_plus is for a B that starts at zero; adalora's does not")
        if self.data.end is not None and self.task not in ENDED:
            raise ValueError(f"data.end is for {' and '.join(ENDED)}; {self.task} ends rows itself")
        return self

    def dump(self) -> str:
        """The resolved recipe as YAML."""
        return yaml.safe_dump(self.model_dump(), sort_keys=False, allow_unicode=True)


def with_method(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The mapping with `lora.method`, where it has that, as `method`."""
    lora = raw.get("lora")
    if not isinstance(lora, dict) or "method" not in lora:
        return dict(raw)
    rest = {name: value for name, value in lora.items() if name != "method"}
    if raw.get("method", lora["method"]) != lora["method"]:
        raise ValueError(
            f"method is {raw['method']!r} and lora.method {lora['method']!r}: set one of them"
        )
    return {**raw, "method": lora["method"], "lora": rest}


def read_recipe(path: str | Path, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """The recipe in a YAML file with dotted fields (`lora.rank`) set over it, or `RecipeError`."""
    file = Path(path).expanduser()
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RecipeError(f"{file} is not there. {_similar_files(file)}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{file} cannot be read as text: {error}.") from error
    raw = parse_recipe(text, str(file))
    for dotted, value in (overrides or {}).items():
        set_field(raw, dotted, value)
    return make_recipe(raw, str(file))


def parse_recipe(text: str, where: str = "recipe") -> dict[str, Any]:
    """The mapping that a recipe's text is, not checked yet, or `RecipeError`."""
    raw = read_yaml(text, where)
    if not isinstance(raw, dict):
        kind = "empty" if raw is None else f"a {type(raw).__name__}"
        raise RecipeError(f"{where} is {kind}; expected fields such as `model:` and `task:`.")
    return raw


def make_recipe(raw: Mapping[str, Any], where: str = "recipe") -> Recipe:
    """The recipe in a mapping, or `RecipeError` that names the field, and the nearest known one."""
    try:
        return Recipe.model_validate(dict(raw))
    except ValidationError as error:
        raise RecipeError(f"{where}: {_explain(error)}") from error


def parse_overrides(arguments: list[str]) -> dict[str, Any]:
    """`--lora.rank 4 --train.lr=5e-3` as a mapping of dotted field to value."""
    found: dict[str, Any] = {}
    waiting = list(arguments)
    while waiting:
        flag = waiting.pop(0)
        name, equals, value = flag.removeprefix("--").partition("=")
        if not flag.startswith("--") or not name:
            raise RecipeError(f"{flag!r} is not a field; write --lora.rank 4 to set lora.rank.")
        if not equals:
            if not waiting or waiting[0].startswith("--"):
                raise RecipeError(f"--{name} has no value; write --{name} VALUE.{_hint(name)}")
            value = waiting.pop(0)
        found[name] = value_of(name, value)
    return found


def value_of(name: str, value: str) -> Any:
    """What a field's text says: YAML, but for fields of text, where "{mr}" is no mapping."""
    field = fields().get(name)
    texts = (str, str | None)
    if field is not None and field.annotation in texts and value not in ("null", "~"):
        return value
    return read_yaml(value, f"--{name} {value if len(value) <= 60 else value[:57] + '...'}")


def fields(model: type[BaseModel] = Recipe, prefix: str = "") -> dict[str, Any]:
    """Every field of the recipe by its dotted name."""
    found: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found.update(fields(kind, f"{prefix}{name}."))
        else:
            found[prefix + name] = field
    return found


def get_field(raw: dict[str, Any], dotted: str) -> Any:
    """The value in a whole recipe's mapping by the field's dotted name."""
    value: Any = raw
    for name in dotted.split("."):
        value = value[name]
    return value


def set_field(raw: dict[str, Any], dotted: str, value: Any) -> None:
    """Put a value into a recipe's mapping by the field's dotted name."""
    part = raw
    *parents, last = dotted.split(".")
    for name in parents:
        inner = part.setdefault(name, {})
        if not isinstance(inner, dict):
            raise RecipeError(f"--{dotted}: {name} is no group of fields.{_hint(dotted)}")
        part = inner
    part[last] = value


def _swept(given: Any) -> Any:
    if not isinstance(given, dict):
        raise ValueError("expected values by field, as in {train.seed: [0, 1, 2]}")
    known = fields()
    found: dict[str, Any] = {}
    for name, value in given.items():
        if isinstance(value, dict) and name not in known:
            found.update(_swept({f"{name}.{inner}": own for inner, own in value.items()}))
            continue
        if name not in known or name in ("output", "sweep"):
            raise ValueError(f"{name} is no field that can be swept.{_hint(str(name))}")
        if not isinstance(value, list) or not value:
            raise ValueError(f"{name} is {value!r}; expected a list of values, as in [0, 1, 2]")
        found[name] = value
    return found


_TOLD = 5  # problems of a recipe that are told at once


def _explain(error: ValidationError) -> str:
    problems = error.errors(include_url=False, include_context=False)
    # A union reports each of its members: say what is wrong with a field once.
    seen: dict[str, str] = {}
    for problem in problems:
        path = ".".join(str(part) for part in problem["loc"] if _is_field(part))
        seen.setdefault(path, _problem(path, problem))
    messages, left = list(seen.values())[:_TOLD], len(seen) - _TOLD
    more = f" ({left} more {'problem' if left == 1 else 'problems'})" if left > 0 else ""
    return " Also: ".join(messages) + more


def _is_field(part: object) -> bool:
    return not isinstance(part, str) or not ("[" in part or part in ("int", "float", "str"))


def _problem(path: str, problem: Any) -> str:
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        return f"{path} is no field of the recipe.{_hint(path)}"
    if problem["type"] == "missing":
        return f"{path} is missing; it has no default.{_about(path)}"
    if not path:
        return f"{message}."
    got = repr(problem["input"])
    shown = got if len(got) <= 60 else got[:57] + "..."
    end = "" if message.endswith((".", "?")) else "."
    if problem["type"] == "literal_error":
        end += did_you_mean(str(problem["input"]), re.findall(r"'([^']+)'", message))
    return f"{path} is {shown}: {message[:1].lower() + message[1:]}{end}{_about(path)}"


def _about(path: str) -> str:
    field = fields().get(path)
    return f" It means: {field.description}." if field is not None and field.description else ""


def _hint(path: str) -> str:
    known = fields()
    leaf = path.rpartition(".")[2]
    # The same word in another part is the likeliest slip, then a word that looks alike.
    hits = [name for name in known if name.rpartition(".")[2] == leaf]
    hits = hits or difflib.get_close_matches(path, [*known, *Recipe.model_fields], 1, 0.6)
    return f" Did you mean {hits[0]}?" if hits else f" Known are {', '.join(Recipe.model_fields)}."


def _similar_files(file: Path) -> str:
    folder = file.parent
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    hits = difflib.get_close_matches(file.name, names, 1)
    return f"Did you mean {folder / hits[0]}?" if hits else "Check the path of the recipe."
