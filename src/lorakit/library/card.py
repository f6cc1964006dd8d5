"""`write_card`: a model card out of what is known, and of nothing else.

What is ours stands between two marks, so that what a person writes around them stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lorakit.core.errors import LibraryError
from lorakit.formats.glance import glance_folder
from lorakit.library.edit import read_page, write_page
from lorakit.library.entry import Entry, printable
from lorakit.library.front import Page
from lorakit.library.untrusted import numbers, text
from lorakit.library.whole import held

BEGIN, END = "<!-- lorakit: card -->", "<!-- lorakit: end of card -->"
_LIBRARIES = {"peft": "peft", "vera": "peft", "kohya": "diffusers", "diffusers": "diffusers",
              "cloneofsimo": "diffusers"}  # fmt: skip
# PEFT's words, and those of recipes, for what the hub calls a pipeline.
_PIPELINES = {
    "causal-lm": "text-generation", "chat": "text-generation", "completion": "text-generation",
    "text": "text-generation", "classification": "text-classification",
    "regression": "text-classification", "token-classification": "token-classification",
    "question-answering": "question-answering", "image": "text-to-image",
}  # fmt: skip
_MARKS = {**{c: f"\\{c}" for c in "\\`*_[]|#"}, "<": "&lt;", ">": "&gt;", "&": "&amp;"}
_AUTO = {"classification": "AutoModelForSequenceClassification",
         "regression": "AutoModelForSequenceClassification",
         "seq2seq": "AutoModelForSeq2SeqLM"}  # fmt: skip


def write_card(entry: Entry, *, license: str | None = None, force: bool = False) -> Path:
    """Write the adapter's model card, README.md or NAME.md beside a file; return its path.

    Front matter as the hub reads it, what is there already being kept, and a text with base,
    training, metrics, use and limits. A text that a person wrote is kept: only what stands between
    our marks is written anew, and where there are none, `LibraryError` unless `force`.
    """
    place = held(entry)
    path, page = read_page(place)
    body = page.body
    card = f"{BEGIN}\n{_body(entry, place)}\n{END}\n"
    begin, end = body.find(BEGIN), body.find(END)
    if 0 <= begin < end:
        body = body[:begin] + card.rstrip("\n") + body[end + len(END) :]
    elif not body.strip() or force:
        body = f"\n{card}"
    else:
        raise LibraryError(
            f"{printable(str(path))} has a text of its own, which is not replaced. Put the lines "
            f"{BEGIN} and {END} where the card should stand, or force it."
        )
    known = page.values()
    fresh = {key: own for key, own in _head(entry, license).items() if key not in known}
    if license:
        fresh["license"] = text(license)
    changed = Page(page.fence, page.front, page.close, body).changed(fresh)
    write_page(path, changed)
    return path


def _head(entry: Entry, license: str | None) -> dict[str, Any]:
    library = _LIBRARIES.get(entry.format, "lorakit")
    found: dict[str, Any] = {
        "base_model": entry.base if is_repo(entry.base) else None,
        "base_model_relation": "adapter" if is_repo(entry.base) else None,
        "library_name": library,
        "license": text(license) or None,
        "pipeline_tag": _PIPELINES.get(entry.task),
        "tags": list(dict.fromkeys([*entry.tags, *_kinds(entry), "lorakit"])),
        "instance_prompt": ", ".join(entry.triggers) or None,
        "metrics": _measures(entry) or None,
    }
    return {key: value for key, value in found.items() if value is not None}


def is_repo(base: str) -> bool:
    """Whether a base's name can be that of a repository, `owner/name`, and not a path of here."""
    owner, slash, name = base.partition("/")
    plain = all(c.isascii() and (c.isalnum() or c in "-_.") for c in owner + name)
    starts = owner[:1].isalnum() and name[:1].isalnum()
    return bool(slash) and plain and starts and not Path(base).exists()


def _kinds(entry: Entry) -> list[str]:
    return [entry.method] if entry.method in ("", "lora") else [entry.method, "adapter"]


def _measures(entry: Entry) -> list[str]:
    idle = ("loss", "step", "seconds", "runtime")
    names = [name.removeprefix("eval_") for name in entry.metrics if name.startswith("eval_")]
    return [name for name in names if name not in idle]


def _body(entry: Entry, place: Path) -> str:
    seen = glance_folder(place) if place.is_dir() else None
    made = seen.manifest.get("run", {}) if seen is not None else {}
    parts = [f"# {_plain(entry.shown)}", _what(entry)]
    if entry.description:
        parts.append(_plain(entry.description))
    if entry.triggers:
        words = ", ".join(f"`{_code(word)}`" for word in entry.triggers)
        parts.append(f"Trigger words: {words}.")
    parts += _section("Training", _training(made))
    rows = "\n".join(f"| {_plain(k)} | {v:.6g} |" for k, v in entry.metrics.items())
    parts += _section("Metrics", rows and f"| metric | value |\n| --- | ---: |\n{rows}")
    parts += _section("Use", _use(entry, place))
    parts += _section("Limits", _limits(entry))
    return "\n\n".join(parts)


def _section(title: str, text: str) -> list[str]:
    return [f"## {title}", text] if text else []


def _what(entry: Entry) -> str:
    kind = {"lora": "LoRA", "dora": "DoRA", "vera": "VeRA"}.get(entry.method, entry.method)
    ranks = f" of rank {entry.rank}" if entry.ranks else ""
    base = f" for {_base(entry)}" if entry.base else ""
    task = f" Task: {_plain(entry.task)}." if entry.task else ""
    size = f"{entry.parameters:,} parameters" if entry.parameters else f"{entry.bytes:,} bytes"
    return f"An adapter ({_plain(kind or 'of an unknown method')}{ranks}){base}, {size}.{task}"


def _base(entry: Entry) -> str:
    """The base as others can find it: paths of this machine are nobody's business."""
    name = entry.base if is_repo(entry.base) else entry.base.replace("\\", "/").rpartition("/")[2]
    return f"`{_code(name)}`"


def _training(made: Mapping[str, Any]) -> str:
    recipe = made.get("recipe")
    if not isinstance(recipe, dict):
        return ""
    lora, train = (recipe.get(key) for key in ("lora", "train"))
    facts = {
        **{k: _value(lora, k) for k in ("rank", "alpha", "targets", "dropout", "init")},
        **{k: _value(train, k) for k in ("steps", "epochs", "batch_size", "lr", "seed",
                                         "precision")},
    }  # fmt: skip
    rows = [f"| {key} | {value} |" for key, value in facts.items() if value]
    step = numbers(made.get("metrics")).get("step")
    if step:
        rows.append(f"| step of this adapter | {step:g} |")
    data = made.get("data")
    for split, files in data.items() if isinstance(data, dict) else ():
        for name, sha in files.items() if isinstance(files, dict) else ():
            rows.append(f"| {_plain(str(split))} data | {_plain(str(name))} `{_code(sha)[:12]}` |")
    return "| | |\n| --- | --- |\n" + "\n".join(rows) if rows else ""


def _value(part: Any, key: str) -> str:
    value = part.get(key) if isinstance(part, dict) else None
    if isinstance(value, (list, tuple)):
        value = ", ".join(text(item) for item in value[:20])
    known = isinstance(value, (str, int, float)) and not isinstance(value, bool)
    return _plain(text(str(value))) if known else ""


def _use(entry: Entry, place: Path) -> str:
    if entry.format == "":
        return ""
    where = f"hub-or-folder/{entry.name}{place.suffix if place.is_file() else ''}"
    where = _code(text(where))
    code = [f"import lorakit as lk\n\nlk.load(model, {where!r})  # onto the base, as it is"]
    if entry.format in ("peft", "vera"):
        auto = _AUTO.get(entry.task, "AutoModelForCausalLM")
        base = entry.base if is_repo(entry.base) else "the-base"
        code.append(
            f"from peft import PeftModel\nfrom transformers import {auto}\n\n"
            f"base = {auto}.from_pretrained({base!r})\n"
            f"model = PeftModel.from_pretrained(base, {where!r})"
        )
    elif entry.format in ("kohya", "diffusers"):
        code.append(f"pipeline.load_lora_weights({where!r})  # of diffusers")
    return "\n\n".join(f"```python\n{one}\n```" for one in code)


def _limits(entry: Entry) -> str:
    lines = ["It works on the base it was trained on, and on no other."]
    if not entry.metrics:
        lines.append("No metrics are recorded.")
    if entry.problem:
        lines.append(f"It could not be read: {_plain(entry.problem)}")
    return " ".join(lines)


def _plain(value: str) -> str:
    """A text in which nothing is markup: of a page, a table or HTML."""
    return "".join(_MARKS.get(char, char) for char in text(value, 2000))


def _code(value: Any) -> str:
    return text(str(value)).replace("`", "'").replace("|", "/")
