"""Hostile input of every kind gives a clear error or inert text, and writes nothing elsewhere."""

from __future__ import annotations

import asyncio
import gzip
import html
import itertools
import json
import re
import shutil
import socket
import stat
import struct
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path

import pytest

import lorakit as lk
from browsing import Server, turn, visit
from lorakit.core.errors import LorakitError
from lorakit.demo import base_folder
from lorakit.formats.manifest import sha256
from lorakit.web.news import news
from lorakit.web.place import Place
from lorakit.web.told import alert
from lorakit.web.uploads import take_in

IMG = "<img src=x onerror=window.pwned=1>"
SCRIPT = "</textarea></mark><script>window.pwned=1</script>"
BASE = str(base_folder())
STORY = {"prompt": "name: Ada", "completion": "Ada is a fox."}
WEIGHTS = "adapter_model.safetensors"
OURS = (
    "div", "p", "b", "i", "em", "q", "ul", "ol", "li", "dl", "dt", "dd", "h3", "h4", "small",
    "span", "mark", "section", "button", "table", "caption", "thead", "tbody", "tr", "th", "td",
    "figure", "figcaption", "svg", "rect", "text", "g", "path", "circle", "title", "pre",
    "details", "summary", "code", "br",
)  # fmt: skip


class Tags(HTMLParser):
    """What a browser would make of a piece of the page: nothing but our own elements."""

    def handle_starttag(self, tag, attrs):
        assert tag in OURS, tag
        for name, value in attrs:
            assert not name.startswith("on"), name
            assert name not in ("href", "src", "srcdoc", "action", "formaction"), name
            assert "javascript:" not in (value or "") or name in ("aria-label", "title"), value


def tree(*folders):
    """Every path below some folders, with the size and time of each file."""
    return {
        str(path): (path.lstat().st_size, path.lstat().st_mtime_ns) if path.is_file() else None
        for folder in folders
        for path in sorted(folder.rglob("*"))
    }


def is_clear(text):
    assert 10 < len(text) < 1500, text[:2000]
    assert "Traceback" not in text
    return True


class Desk:
    """The page's own components and handlers, wired as they are, without a browser."""

    def __init__(self, home: Path) -> None:
        import gradio as gr

        from lorakit.web import blend, learn, shelf, train, trying
        from lorakit.web.page import Page

        self.outside = home / "outside"
        self.outside.mkdir(parents=True)
        (self.outside / "rows.jsonl").write_text(json.dumps(STORY))
        self.place = Place.of(home / "work")
        with gr.Blocks() as self.blocks:
            self.page = Page(self.place, self.blocks)
            for name in ("library", "train", "try", "blend", "learn"):
                with gr.Tab(name, id=name) as self.page.tabs[name]:
                    pass
            self.shelf, self.train = shelf.Shelf(self.page), train.Training(self.page)
            self.trying, self.blending = trying.Trying(self.page), blend.Blending(self.page)
            self.learning = learn.Learning(self.page)
        self.adapters = [self._adapter(name) for name in ("one", "two")]
        self.rows = self.file("rows.jsonl", json.dumps(STORY))
        self.page.library.refresh()

    def _adapter(self, name: str) -> Path:
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(BASE)
        lk.inject(model, lk.plan(model, ["q", "v"], 2), name=name)
        model.name_or_path = BASE
        return lk.save(model, self.place.adapters / name, name=name)

    def file(self, name: str, content: str | bytes) -> Path:
        """A file of rows below the roots."""
        self.place.uploads.mkdir(exist_ok=True)
        data = content if isinstance(content, bytes) else content.encode()
        (self.place.uploads / name).write_bytes(data)
        return self.place.uploads / name

    def form(self, *, base=BASE, data=None, task="completion", name="a run", **fields):
        """The training form, filled: fields by dotted name with __ for the dot."""
        train = self.train
        said = {key.replace("__", "."): value for key, value in fields.items()}
        own = {
            component: said.get(one.name, one.shown(one.default))
            for one, component in zip(train.maker.known, train.own)
        }
        rows = str(self.rows) if data is None else data
        return {train.base: base, train.rows: rows, train.task: task, train.name: name, **own}

    def id_of(self, place: Path) -> str:
        """The library's id of an adapter."""
        self.page.library.refresh()
        return next(own.id for own in self.page.library.search() if own.place == place)

    def press(self, handler, given):
        """What a handler shows as HTML, and all that it gave, for these values of components."""
        wired = next(own for own in self.blocks.fns.values() if own.fn == handler)
        result = handler(*(given.get(own, own.value) for own in wired.inputs))
        results = list(result) if hasattr(result, "__next__") else [result]
        shown = []
        for one in results:
            values = one if isinstance(one, (tuple, list)) else (one,)
            for component, value in zip(wired.outputs, values):
                if type(component).__name__ == "HTML" and isinstance(value, str):
                    Tags().feed(value)
                    shown.append(value)
        return "\n".join(shown), results

    def refused(self, handler, given) -> str:
        """The error that a handler shows; nothing on the disk may have changed."""
        with self.unchanged():
            shown, _ = self.press(handler, given)
        found = re.findall(r'<div class="told bad" role="alert">(.*?)</div>', shown)
        assert found, shown[:500] or "no error was shown"
        message = html.unescape(found[-1])
        assert is_clear(message)
        return message

    @contextmanager
    def unchanged(self):
        before = tree(self.outside, self.place.work)
        yield
        assert tree(self.outside, self.place.work) == before


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    home = tmp_path_factory.mktemp("hostile")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(home / "cache"))
        # In a thread, as the browser's fixture holds a loop in this one.
        with ThreadPoolExecutor(1) as pool:
            built = pool.submit(lambda: asyncio.run(made(home))).result()
        yield built


async def made(home):
    """In a loop that runs: else Gradio makes some that nobody closes."""
    return Desk(home)


@contextmanager
def copied(desk, name="copy"):
    """An adapter of its own, without a proof of its bytes."""
    folder = Path(shutil.copytree(desk.adapters[0], desk.place.adapters / name))
    (folder / "lorakit.json").unlink()
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


NAMES = {
    "traversal": "../../evil", "absolute": "/etc/evil", "backslash": "..\\evil", "slash": "a/b",
    "nul": "a\0b", "long": "x" * 10_000, "control": "a\x07b", "newline": "a\nb",
    "right-to-left": "\u202egpj.exe", "hidden": ".hidden", "dash": "-rf", "dots": "..",
    "half a pair": "a\ud800", "html": IMG, "queue": ".queue",
}  # fmt: skip
RESERVED = {"device": "con", "device file": "AUX.txt", "ours": "adapter", "stream": "a:b"}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_names_of_runs(desk, name):
    desk.refused(desk.train.begun, desk.form(name=name))
    assert not (desk.place.runs / ".queue").exists()


@pytest.mark.parametrize("name", [*NAMES.values(), *RESERVED.values()], ids=[*NAMES, *RESERVED])
def test_names_of_renames_imports_and_blends(desk, name):
    shelf, blend = desk.shelf, desk.blending
    both = [str(own) for own in desk.adapters]
    desk.refused(
        shelf.doing.renamed, {shelf.entry: desk.id_of(desk.adapters[0]), shelf.new_name: name}
    )
    file = str(desk.adapters[0] / WEIGHTS)
    desk.refused(shelf.doing.took, {shelf.brought: [file], shelf.bring_name: name})
    desk.refused(blend.kept, {blend.chosen: both, blend.name: name})


PATHS = {
    "etc": "/etc/passwd", "relative": "../../etc/passwd", "nul": "a\0b", "home": "~root/x",
    "long": "/" + "x" * 10_000, "url": "http://evil.example/x", "file": "file:///etc/passwd",
    "device": "/dev/zero", "half a pair": "/a\ud800", "html": IMG, "outside": None, "link": None,
    "linked folder": None,
}  # fmt: skip


@pytest.mark.parametrize("kind", PATHS)
def test_paths_that_lead_out(desk, kind):
    link, folder = desk.place.work / "link.jsonl", desk.place.work / "linked"
    link.symlink_to(desk.outside / "rows.jsonl")
    folder.symlink_to(desk.outside)
    made = {"outside": desk.outside / "rows.jsonl", "link": link, "linked folder": folder / "x"}
    path = PATHS[kind] or str(made[kind])
    maker, form = desk.train.maker, desk.form
    for given in (
        form(base=path), form(data=path), form(data__eval=path),
        form(task="chat", data__chat_template=path),
    ):  # fmt: skip
        desk.refused(maker.rows, given)
        desk.refused(desk.train.begun, given)
    for tab, handler in (
        (desk.trying, "ask"), (desk.blending, "kept"), (desk.blending, "overlapping"),
        (desk.learning, "proved"),
    ):  # fmt: skip
        chosen = path if tab is desk.learning else [path, str(desk.adapters[0])]
        given = {tab.chosen: chosen}
        given |= {tab.name: "blend"} if tab is desk.blending else {}
        given |= {tab.text: "hello"} if tab is desk.trying else {}
        desk.refused(getattr(tab, handler), given)
    link.unlink()
    folder.unlink()


def bomb(depth=12):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for number in range(1, depth):
        aliases = ", ".join([f"*a{number - 1}"] * 10)
        lines.append(f"a{number}: &a{number} [{aliases}]")
    return "\n".join(lines)


RECIPES = {
    "bomb": bomb(), "itself": "model: &a [*a]", "deep": "a: " + "[" * 2000, "nul": "model: a\0",
    "object": "model: !!python/object/apply:os.system ['touch pwned']",
    "module": "model: !!python/module:os", "number": f"train: {{steps: {'9' * 5000}}}",
    "hexadecimal": f"train: {{seed: 0x{'f' * 4000}}}", "date": "model: 2001-99-99",
    "tag": "model: !!int abc", "flag": "model: !!bool perhaps", "list": "- model", "empty": "",
    "twice": "model: a\nmodel: b", "key": "? [a]\n: b", "half a pair": 'model: "\\ud800"',
    "outside": f"model: {BASE}\ntask: completion\ndata: {{train: /etc/passwd}}",
    "output": f"model: {BASE}\ntask: text\ndata: {{train: @}}\noutput: /tmp/evil",
    "base": "model: /etc\ntask: text\ndata: {train: @}",
    "template": f"model: {BASE}\ntask: chat\ndata: {{train: @, chat_template: /etc/passwd}}",
    "eval": f"model: {BASE}\ntask: text\ndata: {{train: @, eval: /etc/passwd}}",
    "sweep": f"model: {BASE}\ntask: text\ndata: {{train: @}}\nsweep: {{output: [/tmp/evil]}}",
    "html": f"{IMG}: 1",
}  # fmt: skip


@pytest.mark.parametrize("text", RECIPES.values(), ids=RECIPES)
def test_recipes_that_are_typed(desk, text):
    train = desk.train
    desk.refused(train.typed, {train.text: text.replace("@", str(desk.rows)), train.name: "run"})


FIELDS = {
    "anchors": ("lora__targets", bomb().replace("\n", " ")), "deep": ("lora__rank", "[" * 2000),
    "digits": ("train__steps", "9" * 5000), "not a number": ("train__lr", ".nan"),
    "endless": ("train__lr", ".inf"), "negative": ("lora__rank", "-1"),
    "object": ("lora__targets", "!!python/object/apply:os.system ['x']"),
    "attribute": ("data__prompt", "{prompt.__class__.__init__.__globals__}"),
    "index": ("data__prompt", "{0[0]}"), "format": ("data__prompt", "{prompt:>99999999999}"),
    "conversion": ("data__prompt", "{prompt!r}"), "brace": ("data__prompt", "{"),
    "encoding nul": ("data__encoding", "a\0"), "encoding half": ("data__encoding", "\ud800"),
    "encoding none": ("data__encoding", "undefined"), "encoding zip": ("data__encoding", "zip"),
    "benchmark": ("data__benchmark", "../../etc"), "columns": ("data__columns", "{a: 1}"),
    "device": ("train__device", IMG), "targets": ("lora__targets", SCRIPT),
    "task": ("task", "evil"), "no task": ("task", None), "method": ("method", "evil"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "value"), FIELDS.values(), ids=FIELDS)
def test_fields_of_the_form(desk, name, value):
    given = {"data__completion": "{completion}"} if name == "data__prompt" else {}
    form = desk.form(**{name: value}, **given)
    shown, _ = desk.press(desk.train.refreshed, form)
    handler = desk.train.refreshed
    if 'role="alert"' not in shown:  # then what reads the rows or the base finds it
        apart = name in ("train__device", "lora__targets")  # the rows do not depend on them
        handler = desk.train.maker.estimated if apart else desk.train.maker.rows
    desk.refused(handler, form)


TEMPLATES = {
    "globals": "{{ cycler.__init__.__globals__.os.popen('touch pwned') }}",
    "file": "{% include '/etc/passwd' %}", "zero": "{{ 1 / 0 }}", "loop": "{{ range(10**9) }}",
    "macro": "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}", "open": "{% for",
    "deep": "{{" + "(" * 3000 + ")" * 3000 + "}}", "half a pair": "{{ '\\ud800' }}",
    "class": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
}  # fmt: skip


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_chat_templates(desk, template):
    desk.refused(desk.train.maker.rows, desk.form(task="chat", data__chat_template=template))


def wrong_parquet():
    import pyarrow as pa
    import pyarrow.parquet as parquet

    raw = pa.array([b"\xff\xfe"], pa.binary()).buffers()
    out = pa.BufferOutputStream()
    texts = pa.Array.from_buffers(pa.string(), 1, raw)
    parquet.write_table(pa.table({"prompt": texts, "completion": ["b"]}), out)
    return out.getvalue().to_pybytes()


BAD_ROWS = {
    "deep.jsonl": '{"prompt":' + "[" * 100_000, "deep.json": "[" * 100_000,
    "half.jsonl": '{"prompt":"\\ud800","completion":"b"}', "null.json": "null",
    "bytes.jsonl": b'{"prompt":"\xff\xfe","completion":"b"}',
    "raw nul.jsonl": '{"prompt":"a\0","completion":"b"}', "binary.txt": bytes(range(256)),
    "digits.jsonl": f'{{"prompt":{"9" * 5000},"completion":"b"}}', "empty.csv": "",
    "quote.csv": 'prompt,completion\n"a,b\n', "ragged.csv": "prompt,completion\n1\n",
    "wide.csv": ",".join(f"c{n}" for n in range(20_000)) + "\n1\n",
    "zip.csv": b"PK\3\4" + bytes(99),
    "header.csv": f'"{IMG}",b\n1,2\n', "no.parquet": "PAR1xxxxPAR1", "text.parquet": None,
    "keys.jsonl": json.dumps({IMG * 100: 1}), "object.jsonl": '{"prompt":{"a":1},"completion":[]}',
    "cut.jsonl.gz": gzip.compress(b"x" * 999)[:30], "no.csv.gz": b"\x1f\x8b\x08" + b"x" * 50,
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_ROWS)
def test_rows_that_cannot_be_read(desk, name):
    content = BAD_ROWS[name]
    file = desk.file(name, wrong_parquet() if content is None else content)
    task = "text" if name.endswith(".txt") else "completion"
    for handler in (desk.train.maker.rows, desk.train.begun):
        desk.refused(handler, desk.form(data=str(file), task=task))
    file.unlink()


def test_a_score_that_no_float_holds(desk):
    file = desk.file("score.jsonl", f'{{"text":"a","label":{"9" * 4000}}}')
    desk.refused(desk.train.maker.rows, desk.form(data=str(file), task="regression"))
    file.unlink()


SHOWN_ROWS = {
    "html.jsonl": ("completion", json.dumps({"prompt": IMG, "completion": SCRIPT})),
    "formula.csv": ("completion", f'prompt,completion\n"=cmd|calc!A1","@SUM({IMG})"\n'),
    "labels.jsonl": ("classification", "\n".join(
        json.dumps({"text": IMG, "label": own}) for own in (IMG, SCRIPT))),
    "page.txt": ("text", f"<!doctype html>{SCRIPT}{IMG} and some more text to read"),
    "jinja.jsonl": ("completion", json.dumps({"prompt": "{{ 7*7 }}{0.__class__}{%",
    "completion": "{"})),
    "turned.jsonl": ("completion", json.dumps({"prompt": "\u202eabc", "completion": "\u2066b"})),
    "huge.jsonl": ("completion", json.dumps({"prompt": IMG * 3000, "completion": "b"})),
    "nul.jsonl": ("completion", json.dumps({"prompt": "a\0b", "completion": "c"})),
    "chat.jsonl": ("chat", json.dumps({"messages": [
        {"role": "user", "content": "{{ ''.__class__ }}"}, {"role": "assistant",
        "content": IMG}]})),
}  # fmt: skip


@pytest.mark.parametrize("name", SHOWN_ROWS)
def test_rows_are_text(desk, name):
    task, content = SHOWN_ROWS[name]
    file = desk.file(name, content)
    given = desk.form(data=str(file), task=task, data__chat_template="chatml")
    with desk.unchanged():
        shown, _ = desk.press(desk.train.maker.rows, given)
    assert '<ol class="rows">' in shown, shown[:300]
    assert not {"<img", "<script"} & set(re.findall("<[a-z]+", shown))
    file.unlink()


CARDS = {
    "script": f"---\nmodel_name: '{SCRIPT}'\ntags: ['{IMG}']\ndescription: '{IMG}'\n---\n{SCRIPT}",
    "link": "---\nmodel_name: '[x](javascript:alert(1))'\n---\n[x](javascript:alert(1))",
    "svg": "---\ninstance_prompt: '<svg/onload=alert(1)>'\n---\n<iframe src=//evil.example>",
    "braces": "---\nmodel_name: '{{ 7*7 }} {0.__class__} {'\ntags: ['{0}', '{% raw']\n---\n",
    "anchors": f"---\n{bomb()}\n---\n", "deep": "---\na: " + "[" * 60_000 + "\n---\n",
    "object": "---\nmodel_name: !!python/object/apply:os.system ['touch pwned']\n---\n",
    "kinds": "---\nmodel_name: [1]\ntags: {a: 1}\ninstance_prompt: [[1]]\nbase_model: {}\n---\n",
    "digits": "---\nmodel_name: " + "9" * 5000 + "\n---\n",
    "bytes": b"---\nmodel_name: \xff\n---\n",
    "turned": '---\nmodel_name: "a\\u202Egpj"\n---\n',
    "long": f"---\nmodel_name: {'x' * 9999}\n---\n",
    "half a pair": '---\nmodel_name: "\\ud800"\n---\n',
    "date": "---\nmodel_name: 2001-99-99\n---\n",
}  # fmt: skip


@pytest.mark.parametrize("card", CARDS.values(), ids=CARDS)
def test_model_cards_are_text(desk, card):
    shelf = desk.shelf
    with copied(desk) as folder:
        (folder / "README.md").write_bytes(card if isinstance(card, bytes) else card.encode())
        entry = desk.id_of(folder)
        with desk.unchanged():
            shown, results = desk.press(shelf.opened, {shelf.entry: entry})
            cards, _ = desk.press(shelf.looked, {})
        assert results[0][0] == entry
        assert 'class="card"' in cards
        texts = [own for own in results[0] if isinstance(own, str)]
        assert "\u202e" not in "".join([shown, *texts])
        for handler in (shelf.doing.edited, shelf.doing.carded):
            fields = dict.fromkeys(
                (shelf.title, shelf.tags, shelf.triggers, shelf.description), "x"
            )
            told, _ = desk.press(handler, {shelf.entry: entry, **fields})
            assert is_clear(told)


TEXTS = {
    "nul": "a\0b", "long": "x" * 10_000, "turned": "\u202egpj", "half a pair": "\ud800",
    "control": "a\x1bb",
}  # fmt: skip


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_texts_about_an_adapter(desk, text):
    shelf = desk.shelf
    fields = (shelf.title, shelf.tags, shelf.triggers, shelf.description)
    for field in fields:
        given = {**dict.fromkeys(fields, ""), shelf.entry: desk.id_of(desk.adapters[0])}
        desk.refused(shelf.doing.edited, {**given, field: text})


INERT = {
    "html": SCRIPT + IMG, "fence": "---", "yaml": "a: &b [*b] !!python/none", "braces": "{0!r} {{",
    "link": "[x](javascript:alert(1))",
}  # fmt: skip


@pytest.mark.parametrize("text", INERT.values(), ids=INERT)
def test_texts_about_an_adapter_come_back_as_they_are(desk, text):
    shelf = desk.shelf
    fields = (shelf.title, shelf.triggers, shelf.description)
    words = text.replace(",", "")
    with copied(desk) as folder:
        entry = desk.id_of(folder)
        given = {shelf.entry: entry, shelf.tags: words, **dict.fromkeys(fields, words)}
        told, _ = desk.press(shelf.doing.edited, given)
        assert "Kept with" in told
        shown, _ = desk.press(shelf.opened, {shelf.entry: entry})
        assert html.unescape(shown).count(words) >= 2
        desk.press(shelf.doing.carded, {shelf.entry: entry})
        desk.press(shelf.looked, {shelf.text: words})


def with_config(folder, **changes):
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def with_run(folder, run):
    told = json.loads((folder.parent / "one" / "lorakit.json").read_text())
    files = {
        name: {"bytes": len(data), "sha256": sha256(data)}
        for name in told["files"]
        for data in [(folder / name).read_bytes()]
    }
    (folder / "lorakit.json").write_text(json.dumps({**told, "files": files, "run": run}))


def chat(template):
    return {"recipe": {"task": "chat", "data": {"chat_template": template}}}


RUNS = {
    "recipe is a list": {"recipe": [1]}, "recipe is null": {"recipe": None}, "end": {"end": 5},
    "train": {"recipe": {"train": 5}}, "data": {"recipe": {"data": 5}}, "labels": {"labels": 5},
    "kinds of labels": {"labels": [1, {"a": 2}]},
    "quantise": {"recipe": {"train": {"quantise": "x"}}},
    "template is a file": chat("/etc/passwd"), "template is a list": chat(["x"]),
    "template runs": chat("{{ cycler.__init__.__globals__ }}"),
    "prompt": {"recipe": {"task": "completion", "data": {"prompt": "{"}}},
    "attribute": {"recipe": {"task": "completion", "data": {"prompt": "{a.__class__!r}"}}},
}  # fmt: skip


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_what_an_adapter_says_of_its_run(desk, run):
    with copied(desk) as folder:
        with_run(folder, run)
        entry = desk.id_of(folder)
        ask = {desk.trying.chosen: [str(folder)], desk.trying.text: "hello"}
        desk.refused(desk.trying.ask, {**ask, desk.trying.longest: 8})
        desk.press(desk.shelf.opened, {desk.shelf.entry: entry})
        desk.press(desk.trying.picked, ask)


CONFIGS = {
    "base": {"base_model_name_or_path": "/etc"}, "kind": {"base_model_name_or_path": 5},
    "html": {"base_model_name_or_path": IMG}, "nul": {"base_model_name_or_path": "\0"},
    "hub": {"base_model_name_or_path": "evil/base"}, "type": {"peft_type": IMG}, "rank": {"r": -1},
    "pattern": {"target_modules": "(a+)+$"}, "alpha": {"lora_alpha": SCRIPT}, "huge": {"r": 10**30},
}  # fmt: skip


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_configs_of_adapters(desk, config):
    with copied(desk) as folder:
        with_config(folder, **config)
        entry = desk.id_of(folder)
        desk.press(desk.shelf.opened, {desk.shelf.entry: entry})
        given = {desk.trying.chosen: [str(folder)], desk.trying.text: "x", desk.trying.longest: 8}
        desk.refused(desk.trying.ask, given)


def header(content: bytes) -> bytes:
    return struct.pack("<Q", len(content)) + content


def tensor(shape, *offsets):
    return header(
        json.dumps({"a": {"dtype": "F32", "shape": shape, "data_offsets": offsets}}).encode()
    )


TENSORS = {
    "long header": struct.pack("<Q", 2**60) + b"{}",
    "header of all": struct.pack("<Q", 10**6) + b"{}",
    "deep": header(b"[" * 100_000), "empty": b"", "no header": bytes(8),
    "large": tensor([2**40], 0, 4),
    "negative": tensor([-1], 0, 8), "page": b"<!doctype html>" + SCRIPT.encode(),
    "pickle": b"\x80\x04cos\nsystem\n(S'touch pwned'\ntR.", "archive": b"PK\3\4" + bytes(99),
}  # fmt: skip


@pytest.mark.parametrize("data", TENSORS.values(), ids=TENSORS)
def test_tensors_that_lie(desk, data, tmp_path):
    shelf = desk.shelf
    file = tmp_path / "evil.safetensors"
    file.write_bytes(data)
    desk.refused(shelf.doing.took, {shelf.brought: [str(file)], shelf.bring_name: "evil"})
    with copied(desk) as folder:
        (folder / WEIGHTS).write_bytes(data)
        entry = desk.id_of(folder)
        shown, _ = desk.press(shelf.opened, {shelf.entry: entry})
        assert "told bad" in shown
        desk.refused(shelf.doing.made, {shelf.entry: entry, shelf.form: "kohya"})
        given = {desk.trying.chosen: [str(folder)], desk.trying.text: "x"}
        desk.refused(desk.trying.ask, given)


def archive(file: Path, folder: Path, kind: str) -> None:
    """A zip of an adapter's folder with something more in it."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as out:
        for own in sorted(folder.iterdir()):
            if kind not in ("nested", "bare"):
                out.write(own, f"a/{own.name}")
        if kind == "bomb":
            out.writestr("a/README.md", b"\0" * 2**24)
        elif kind == "nested":
            out.writestr("inner.zip", b"PK\5\6" + bytes(18))
        elif kind == "link":
            member = zipfile.ZipInfo("a/README.md")
            member.external_attr = (stat.S_IFLNK | 0o777) << 16
            out.writestr(member, "/etc/passwd")
        elif kind in ("../../evil", "/etc/evil", "C:\\evil", f"..\\{IMG}"):
            out.writestr(kind, b"x")
    data = bytearray(file.read_bytes())
    start = data.index(b"PK\1\2")
    if kind == "encrypted":
        data[start + 8] |= 1
    elif kind == "lying size":
        data[start + 24 : start + 28] = struct.pack("<I", 7)
    elif kind == "twice":
        data = data.replace(b"adapter_model.safetensors", b"adapter_config.json000000")
        data = data.replace(b"a/lorakit.json", b"a/lorakit.jsoN")
    elif kind == "cut":
        data = data[:-9]
    file.write_bytes(data)


ARCHIVES = [
    "bomb", "nested", "link", "../../evil", "/etc/evil", "C:\\evil", f"..\\{IMG}", "encrypted",
    "lying size", "twice", "cut", "bare",
]  # fmt: skip


@pytest.mark.parametrize("kind", ARCHIVES)
def test_archives(desk, kind, tmp_path):
    shelf = desk.shelf
    file = tmp_path / "evil.zip"
    if kind == "bare":
        file.write_text(SCRIPT)
    else:
        archive(file, desk.adapters[0], kind)
    desk.refused(shelf.doing.took, {shelf.brought: [str(file)], shelf.bring_name: "evil"})


UPLOADS = {
    "no rows": "evil.exe", "double": "rows.jsonl.sh", "page": "rows.html", "none": None,
    "no suffix": ".jsonl",
}  # fmt: skip


@pytest.mark.parametrize("name", UPLOADS.values(), ids=UPLOADS)
def test_uploads_of_other_kinds(desk, name, tmp_path):
    if name is not None:
        (tmp_path / name).write_text("{}")
    given = {desk.train.upload: name and str(tmp_path / name)}
    desk.refused(desk.train.uploaded, given)


@pytest.mark.parametrize("stem", [IMG, "-rf", "con", "\U0001d518" * 60, "a\u202eb", "..", "{0}"])
def test_uploads_get_names_of_ours(stem, tmp_path):
    place = Place.of(tmp_path / "work")
    source = tmp_path / f"{stem}.csv"
    source.write_text("a,b\n1,2\n")
    taken = take_in(place, str(source))
    assert taken.parent == place.uploads
    assert re.fullmatch(r"[^\W_-][\w -]*\.csv", taken.name), taken.name
    assert len(taken.name.encode()) < 220


@pytest.mark.parametrize("number", [-1, 0, 10**12])
def test_lengths_that_no_component_offers(desk, number):
    trying = desk.trying
    given = {trying.chosen: [str(desk.adapters[0])], trying.text: "x", trying.longest: number}
    desk.refused(trying.ask, given)


@pytest.mark.parametrize(("name", "number"), [
    ("heat", -1.0), ("heat", float("nan")), ("heat", float("inf")), ("seed", -1), ("seed", 10**30),
    ("strength", float("nan")), ("strength", float("inf")),
])  # fmt: skip
def test_numbers_of_an_answer_that_no_component_offers(desk, name, number):
    trying = desk.trying
    given = {trying.chosen: [str(desk.adapters[0])], trying.text: "x", trying.longest: 8}
    desk.refused(trying.ask, {**given, getattr(trying, name): number})


@pytest.mark.parametrize(("name", "value"), [
    ("how", "evil"), ("how", None), ("density", -1), ("density", float("nan")), ("density", 10**30),
    ("rank", -1), ("weight", float("nan")), ("weight", float("inf")),
])  # fmt: skip
def test_values_of_a_blend_that_no_component_offers(desk, name, value):
    blend = desk.blending
    field = blend.weights[0] if name == "weight" else getattr(blend, name)
    given = {blend.chosen: [str(own) for own in desk.adapters], blend.how: "ties", blend.name: "n"}
    desk.refused(blend.kept, {**given, field: value})


@pytest.mark.parametrize(
    "value", ["evil", "", "id; DROP TABLE entries", "*" * 10_000, IMG, "\0", "\ud800"]
)
def test_values_of_the_library_that_no_component_offers(desk, value):
    shelf, watch = desk.shelf, desk.train.watch
    entry = desk.id_of(desk.adapters[0])
    desk.refused(shelf.searched, {shelf.order: value})
    desk.refused(shelf.doing.deleted, {shelf.entry: value})
    desk.refused(shelf.doing.examined, {shelf.entry: value})
    desk.refused(shelf.doing.undone, {shelf.gone: value})
    desk.refused(shelf.doing.made, {shelf.entry: entry, shelf.form: value})
    desk.refused(shelf.doing.pushed, {shelf.entry: entry, shelf.repo: value})
    desk.refused(shelf.doing.pulled, {shelf.pull_repo: value})
    desk.refused(watch.stopped, {watch.looked_at: value})
    desk.refused(watch.resumed, {watch.looked_at: value})
    with desk.unchanged():
        desk.press(shelf.searched, {shelf.text: value})
        desk.press(shelf.looked, dict.fromkeys(shelf.filters, value))
        for element in news(desk.page, value, value)["values"]:
            Tags().feed(element if isinstance(element, str) else "")


@pytest.mark.parametrize("text", [IMG, SCRIPT, "x" * 100_000, "{0}", "a\nb\tc"])
def test_what_is_told_is_text(text):
    shown = alert(LorakitError(text))
    Tags().feed(shown)
    assert len(html.unescape(shown)) < 1500


# The page as a process.

SESSIONS = itertools.count()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    home = tmp_path_factory.mktemp("served")
    outside = home / "outside"
    outside.mkdir()
    for name in ("secret.txt", "secret.jsonl", "evil.safetensors"):
        (outside / name).write_text("root:x:secret")
    for name in ("data", "adapters"):
        (home / "work" / name).mkdir(parents=True)
    (home / "work" / "data" / "rows.jsonl").write_text(json.dumps(STORY))
    own = Server(home / "work", env={"GRADIO_TEMP_DIR": str(home / "temp")})
    own.outside = outside
    yield own
    own.close()


@pytest.fixture
def client(server):
    import httpx

    once = httpx.Limits(max_keepalive_connections=0)  # a connection ends with an error
    with httpx.Client(base_url=server.address.rstrip("/"), timeout=60, limits=once) as own:
        assert own.get(server.link).status_code == 200
        own.headers["origin"] = server.address.rstrip("/")
        before = tree(server.outside, server.work)
        yield own
        assert tree(server.outside, server.work) == before
        assert own.get("/").status_code == 200


def is_refused(answer, *statuses):
    assert answer.status_code in (statuses or range(400, 500)), (
        answer.status_code,
        answer.text[:300],
    )
    assert "root:" not in answer.text
    assert len(answer.text) < 1500
    assert "Traceback" not in answer.text


FOREIGN = {
    "origin": ({"origin": "http://evil.example"}, 403), "null": ({"origin": "null"}, 403),
    "near origin": ({"origin": "http://127.0.0.1.evil.example"}, 403),
    "host": ({"host": "evil.example"}, 403), "no port": ({"host": "127.0.0.1"}, 403),
    "fetch": ({"sec-fetch-site": "cross-site"}, 403), "cookie": ({"cookie": "lorakit_0=me.x"}, 401),
    "no cookie": ({"cookie": ""}, 401), "bearer": ({"cookie": "",
    "authorization": "Bearer x"}, 401),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kind", FOREIGN)
def test_requests_from_elsewhere(client, kind):
    headers, status = FOREIGN[kind]
    body = {"fn_index": 0, "data": [], "session_hash": "x"}
    request = client.build_request("POST", "/gradio_api/queue/join", json=body)
    request.headers.update(headers)
    is_refused(client.send(request), status)


LENGTHS = {"huge": str(2**40), "word": "many", "negative": "-1", "two": "1\r\nContent-Length: 2"}


@pytest.mark.slow
@pytest.mark.parametrize("length", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("path", ["/gradio_api/upload", "/gradio_api/queue/join"])
def test_lengths_that_lie(client, server, path, length):
    request = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
        f"Origin: http://127.0.0.1:{server.port}\r\nContent-Length: {length}\r\n\r\nx"
    )
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as own:
        own.sendall(request.encode())
        assert re.match(r"HTTP/1.1 4\d\d", own.recv(1000).decode())


GETS = [
    "/gradio_api/file=/etc/passwd", "/gradio_api/file=../../../../etc/passwd",
    "/gradio_api/file=OUTSIDE/secret.txt", "/gradio_api/file=file:///etc/passwd",
    "/gradio_api/file=%2Fetc%2Fpasswd", "/gradio_api/file=WORK/runs/.queue/x.json",
    "/gradio_api/file=http://evil.example/", "/gradio_api/file=" + "x" * 1000,
    "/gradio_api/file=WORK/data/rows.jsonl", "/static/..%2f..%2f..%2fetc%2fpasswd",
    "/assets/..%2f..%2f..%2f..%2fetc%2fpasswd", "/report/..%2f..%2fetc%2fpasswd",
    "/report/%00", "/gradio_api/proxy=http://evil.example", "/monitoring", "/docs", "/openapi.json",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("path", GETS)
def test_addresses_of_files(client, server, path):
    path = path.replace("OUTSIDE", str(server.outside)).replace("WORK", str(server.work))
    is_refused(client.get(path))


@pytest.mark.slow
def test_uploads_that_lie(client, server):
    name = "../../evil\0.jsonl"
    is_refused(
        client.post(
            "/gradio_api/upload", content=b"no form", headers={"content-type": "text/plain"}
        )
    )
    form = {"content-type": "multipart/form-data"}
    is_refused(client.post("/gradio_api/upload", content=b"x", headers=form))
    is_refused(client.post("/gradio_api/queue/join", content=b"x" * 17_000_000), 413)
    answer = client.post("/gradio_api/upload", files={"files": (name, b"{}")})
    for path in answer.json() if answer.status_code == 200 else ():
        assert Path(path).resolve().is_relative_to(server.work.parent / "temp")


class Api:
    """Gradio's own routes, with values that no component would send."""

    def __init__(self, client) -> None:
        self.client = client
        config = client.get("/config").json()
        self.components = {own["id"]: own["props"] for own in config["components"]}
        self.functions = config["dependencies"]

    def names(self, own):
        props = self.components.get(own, {})  # an event of the page has no component
        return {props.get("elem_id"), props.get("label")} - {None}

    def function(self, target: str, count: int | None = None):
        """The first function that an event of a component runs."""
        for own in self.functions:
            if any(target in self.names(id) for id, _ in own["targets"]):
                return own
        raise AssertionError(target)

    def send(self, target: str, values: dict, **more):
        own = self.function(target)
        data = [
            next((values[name] for name in self.names(id) if name in values),
                 self.components[id].get("value"))
            for id in own["inputs"]
        ]  # fmt: skip
        return self.join({"fn_index": own["id"], "data": data, **more})

    def join(self, body: dict) -> str:
        """All that the page answers."""
        session = f"hostile{next(SESSIONS)}"
        text = json.dumps({"session_hash": session, "event_data": None, **body})
        answer = self.client.post(
            "/gradio_api/queue/join", content=text, headers={"content-type": "application/json"}
        )
        if answer.status_code != 200:
            is_refused(answer, *range(400, 501))  # of Gradio's own, without what was wrong
            return answer.text
        said = ""
        with self.client.stream("GET", f"/gradio_api/queue/data?session_hash={session}") as stream:
            for line in stream.iter_lines():
                said += line
                if '"process_completed"' in line or "close_stream" in line:
                    break
        return said


OUT = {"path": "OUTSIDE/secret.jsonl", "meta": {"_type": "gradio.FileData"}}
LOCAL = {**OUT, "path": "OUTSIDE/evil.safetensors"}
URL = {**OUT, "path": "http://127.0.0.1:9/rows.jsonl"}
FORGED = {
    "order": ("search", {"Order": "evil"}), "order of a kind": ("search", {"Order": {"a": 1}}),
    "filter": ("filter-base", {"filter-base": ["x"]}), "search": ("search", {"search": {"a": [1]}}),
    "adapter": ("try-go", {"try-adapters": ["/etc/passwd"], "try-text": "x"}),
    "adapters of a kind": ("try-go", {"try-adapters": "/etc/passwd", "try-text": ["x"]}),
    "strength": ("try-go", {"Strength": -1e308}),
    "nan": ("try-go", {"Longest answer": float("nan")}),
    "text for a number": ("try-go", {"Seed": "x"}), "none": ("try-go", {"Temperature": None}),
    "blend": ("blend-keep", {"blend-adapters": ["/etc/passwd", "/etc"], "blend-name": "x"}),
    "method": ("blend-keep", {"blend-how": "evil", "blend-name": "../x"}),
    "density": ("blend-keep", {"Density": [1], "blend-name": None}),
    "run": ("start", {"name": "../../evil"}), "no run": ("start", {"name": None}),
    "base": ("start", {"base": "/etc", "name": "x"}), "data": ("start", {"data": "/etc/passwd"}),
    "task": ("start", {"task": "evil"}), "settings": ("start", {"train-lr": {"a": 1}}),
    "job": ("stop", {"run": "../../x"}), "job of a kind": ("resume", {"run": [1]}),
    "layer": ("learn-layer", {"learn-layer": "x", "learn-adapter": "/etc"}),
    "upload": ("Upload rows", {"Upload rows": OUT}),
    "address": ("Upload rows", {"Upload rows": URL}),
    "path": ("Upload rows", {"Upload rows": "/etc/passwd"}),
    "import": ("bring", {"brought": [LOCAL], "bring-name": "x"}),
    "pull": ("pull", {"Or a repository of the hub": None}),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kind", FORGED)
def test_values_that_are_sent_past_the_components(client, server, kind):
    target, values = FORGED[kind]
    values = json.loads(json.dumps(values).replace("OUTSIDE", str(server.outside)))
    said = Api(client).send(target, values)
    assert "root:" not in said
    assert "Traceback" not in said
    assert '"success":false' in said.replace(" ", "") or "told bad" in said or "empty" in said, (
        said[:500]
    )


CALLS = {
    "no function": {"fn_index": 99_999, "data": []}, "negative": {"fn_index": -1, "data": []},
    "word": {"fn_index": "x", "data": []}, "no data": {"fn_index": 0}, "short": {"fn_index": 0,
    "data": []},
    "object": {"fn_index": 0, "data": {"a": 1}}, "event": {"fn_index": 3, "data": [],
    "event_data": {"entry": {}}},
    "session": {"fn_index": 0, "data": [], "session_hash": {"a": 1}},
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("body", CALLS.values(), ids=CALLS)
def test_calls_that_no_page_makes(client, body):
    assert "Traceback" not in Api(client).join(body)


# What is on the disk, in a browser.


def library(work: Path) -> None:
    """Adapters, rows, a study and a job whose every text is HTML."""
    from transformers import AutoModelForCausalLM

    from lorakit.jobs.queue import QUEUE, Queue
    from lorakit.train.recipe import make_recipe

    model = AutoModelForCausalLM.from_pretrained(BASE)
    lk.inject(model, lk.plan(model, ["q"], 2), name="a")
    model.name_or_path = BASE
    front = f"---\nmodel_name: '{SCRIPT}{IMG}'\ntags: ['{IMG}']\ninstance_prompt: '{IMG}'\n" + (
        f"description: '{SCRIPT}'\n---\n{SCRIPT}\n[x](javascript:window.pwned=1)"
    )
    for name in (IMG, "b" + IMG):
        folder = lk.save(model, work / "adapters" / name, name="a")
        (folder / "README.md").write_text(front)
        (folder / "lorakit.json").unlink()
        with_config(folder, revision=IMG)
    broken = Path(shutil.copytree(folder, work / "adapters" / f"broken {IMG}"))
    (broken / "adapter_config.json").write_text(json.dumps({"peft_type": SCRIPT}))
    rows = work / "data" / f"{IMG}.jsonl"
    rows.parent.mkdir()
    rows.write_text(json.dumps({"prompt": IMG, "completion": SCRIPT}))
    study = work / f"study {IMG}"
    study.mkdir()
    (study / "study.json").write_text("{}")
    (study / "report.html").write_text(SCRIPT + IMG)
    recipe = {"model": BASE, "task": "completion", "output": str(work / "runs" / "x"),
              "data": {"train": str(rows)}}  # fmt: skip
    queue = Queue(work / "runs" / QUEUE)
    queue.cancel(queue.add(make_recipe(recipe), title=SCRIPT + IMG).id)


def choose(page, where: str, text: str = "onerror") -> None:
    """Take from a list what has a text in its name."""
    field = page.locator(f"{where} input").first
    option = page.locator("[role=option]", has_text=text)
    for _ in range(40):  # the list may be made anew meanwhile, and what was typed be gone
        field.click()
        field.fill(text)
        page.wait_for_timeout(250)
        if option.count():
            break
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_folder_full_of_html_in_a_browser(context, start, tmp_path):
    library(tmp_path / "work")
    server = start(work=tmp_path / "work")
    before = tree(server.work)
    page = visit(context, server)
    dialogs = []
    page.on("dialog", lambda own: (dialogs.append(own.message), own.dismiss()))

    turn(page, "Library")
    page.locator("#cards .card").first.click()
    page.locator("#facts-of dl").wait_for()
    assert SCRIPT in page.locator("#facts-of h3").inner_text()
    for tab in ("Spectra", "Training", "Health", "Change", "Convert and share", "Where it changes"):
        page.locator("#detail").get_by_role("tab", name=tab, exact=True).click()
    page.locator("#search textarea, #search input").first.fill(IMG)
    page.locator("#cards .card").first.wait_for()
    page.get_by_role("button", name="Filters").click()

    turn(page, "Train")
    page.locator("#facts").get_by_text("parameters").wait_for()
    choose(page, "#data")
    page.get_by_role("button", name="Look at the rows").click()
    page.locator("ol.rows li").get_by_text("<img").first.wait_for()
    page.get_by_role("button", name="Recipe and command").click()
    page.locator("#name textarea, #name input").first.fill(SCRIPT)
    page.get_by_role("button", name="Start training").click()
    page.locator("#trouble").get_by_text("no name for a run").first.wait_for()

    turn(page, "Try")
    choose(page, "#try-adapters")
    page.locator("#try-text textarea").fill(SCRIPT + IMG)
    page.get_by_role("button", name="Ask").click()
    page.locator("#try-answers .voice, #try-trouble .told").first.wait_for()

    turn(page, "Blend")
    choose(page, "#blend-adapters")
    page.locator("#weight-0").wait_for()
    choose(page, "#blend-adapters", f"b{IMG}"[:12])
    page.locator("#blend-name textarea, #blend-name input").first.fill(IMG)
    page.locator("#blend-keep").click()
    page.locator("#blend-told .bad").wait_for()

    turn(page, "Learn")
    page.locator("#learn-reports a").first.wait_for()
    assert "onerror" in page.locator("#learn-reports").inner_text()
    report = context.new_page()
    report.on("dialog", lambda own: (dialogs.append(own.message), own.dismiss()))
    address = page.locator("#learn-reports a").first.get_attribute("href")
    report.goto(server.address.rstrip("/") + address)

    page.wait_for_timeout(500)
    assert page.evaluate("window.pwned") is None
    assert report.evaluate("window.pwned") is None
    assert page.locator("[onerror], img[src='x'], a[href^='javascript']").count() == 0
    assert dialogs == []
    assert page.foreign == []
    assert page.wrong == []
    assert {own: size for own, size in tree(server.work).items() if own in before} == before
    report.close()
    page.close()
