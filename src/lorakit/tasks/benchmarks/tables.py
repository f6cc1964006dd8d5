"""Texts about records: E2E, WebNLG, DART and WikiBio, with all references of each meaning."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from xml.etree import ElementTree

from lorakit.core.errors import DataError
from lorakit.tasks.benchmarks.base import Benchmark, plain
from lorakit.tasks.rows import Row, Source, read_text

WRITES = ("completion", "seq2seq")


def _e2e(file: Path) -> Iterator[Row]:
    """Rows of `mr` and `ref`, in any case: the official test set writes MR."""
    for row in plain(file):
        fields = {name.lower(): value for name, value in row.fields.items()}
        yield Row(fields, row.file, row.number, row.unit)


def _webnlg(file: Path) -> Iterator[Row]:
    """A row for each English text of each entry; an entry without texts gives one without."""
    try:
        root = ElementTree.fromstring(file.read_bytes())
    except ElementTree.ParseError as error:
        raise DataError(f"{file} is not valid XML ({error}). Fetch the official file.") from error
    for number, entry in enumerate(root.iter("entry"), 1):
        triples = [(t.text or "").strip() for t in entry.findall("modifiedtripletset/mtriple")]
        texts = [_said(lex) for lex in entry.findall("lex") if lex.get("lang", "en") == "en"]
        about = {
            "triples": " && ".join(triples),
            "category": entry.get("category", ""),
            "entry": f"{'/'.join(file.parts[-3:])}:{number}",  # folders have files of one name
        }
        if not triples:
            raise DataError(f"{file}, entry {number}: no modifiedtripletset with an mtriple.")
        for text in [text for text in texts if text] or [None]:
            yield Row({**about, "text": text}, str(file), number, "entry")


def _said(lex: ElementTree.Element) -> str:
    """A reference; the enriched release keeps it in an element of its own."""
    inner = lex.find("text")
    return "".join((lex if inner is None else inner).itertext()).strip()


def _seen(own: Benchmark, place: str, split: str, rows: Iterable[Row]) -> Iterable[Row]:
    """The rows whose category the training set has, or has not, where the split says so."""
    wanted = split.removeprefix("test_")
    if wanted == split:
        return rows
    known = {row.fields["category"] for row in own.read(place, "train")}
    return [row for row in rows if (row.fields["category"] in known) == (wanted == "seen")]


def _dart(file: Path) -> Iterator[Row]:
    """A row for each annotation of each set of triples."""
    for row in plain(file):
        triples, notes = row.fields.get("tripleset"), row.fields.get("annotations")
        if not isinstance(triples, list) or not isinstance(notes, list):
            raise row.error("expected the lists 'tripleset' and 'annotations' of DART.")
        joined = " && ".join(" | ".join(map(str, triple)) for triple in triples)
        for note in notes:
            text = note.get("text") if isinstance(note, dict) else None
            fields = {
                "triples": joined,
                "text": text,
                "entry": f"{Path(row.file).name}:{row.number}",
            }
            yield Row(fields, row.file, row.number, row.unit)


def _wikibio(file: Path) -> Iterator[Row]:
    """A row for each infobox of a `.box` file: its table, and its article's first sentence."""
    sentences = _lines(file.with_suffix(".sent"))
    counts = _lines(file.with_suffix(".nb"))
    boxes = _lines(file)
    if len(boxes) != len(counts):
        raise DataError(
            f"{file} has {len(boxes)} boxes, {file.stem}.nb {len(counts)} counts; expected one for "
            "each. Fetch the files again."
        )
    at = 0
    for number, (box, count) in enumerate(zip(boxes, counts), 1):
        row = Row({}, str(file), number, "line")
        if not count.strip().isdecimal() or at >= len(sentences):
            raise row.error(f"{file.stem}.nb and {file.stem}.sent have no sentence for it.")
        yield Row({"table": _table(box, row), "text": sentences[at].strip()}, str(file), number)
        at += int(count)


def _table(box: str, row: Row) -> str:
    """`name_1:ada<tab>name_2:king` as `name: ada king`, fields joined by bars."""
    values: dict[str, list[str]] = {}
    for cell in box.split("\t"):
        key, colon, word = cell.partition(":")
        if not colon:
            raise row.error(f"{cell!r:.60} is no field and value with a colon between.")
        name, _, place = key.rpartition("_")
        if word and word != "<none>":
            values.setdefault(name if place.isdecimal() else key, []).append(word)
    return " | ".join(f"{name}: {' '.join(words)}" for name, words in values.items())


def _lines(file: Path) -> list[str]:
    if not file.is_file():
        raise DataError(f"{file} is not there; WikiBio has .box, .sent and .nb side by side.")
    return read_text(file, Source()).removesuffix("\n").split("\n")


def _sets(source: str, target: str) -> dict[str, str]:
    return {"prompt": f"{{{source}}}\n", "completion": f"{{{target}}}"}


# The third release has the references of semantic parsing beside those of texts.
_TEST_XML = (
    "test/**/*rdf-to-text*with-refs*en.xml",
    "test/**/*with-refs*en.xml",
    "test/**/*with_lex*.xml",
    "test/**/*.xml",
)
BENCHMARKS = (
    Benchmark(
        "e2e", "restaurants from attributes", WRITES,
        {
            "train": ("trainset.csv", "train-fixed*.csv", "*train*.csv", "*train*.jsonl"),
            "dev": ("devset.csv", "devel-fixed*.csv", "*val*.jsonl", "*dev*.jsonl"),
            "test": ("testset_w_refs.csv", "test-fixed*.csv", "*test*.jsonl"),
        },
        _sets("mr", "ref"), ("bleu_e2e", "nist", "meteor", "rouge_l_coco", "cider", "slots"), _e2e,
        group="mr",
    ),
    Benchmark(
        "webnlg", "texts from triples, by category", WRITES,
        {
            "train": ("train/**/*.xml",), "dev": ("dev/**/*.xml",), "test": _TEST_XML,
            "test_seen": _TEST_XML, "test_unseen": _TEST_XML,
        },
        _sets("triples", "text"), ("bleu", "meteor", "ter"), _webnlg, group="entry", keep=_seen,
    ),
    Benchmark(
        "dart", "texts from triples of tables", WRITES,
        {split: (f"dart-v*-full-{split}.json",) for split in ("train", "dev", "test")},
        _sets("triples", "text"), ("bleu", "meteor", "ter"), _dart, group="entry",
    ),
    Benchmark(
        "wikibio", "first sentences from infoboxes", WRITES,
        {
            "train": ("train/train.box", "train.box"), "dev": ("valid/valid.box", "valid.box"),
            "test": ("test/test.box", "test.box"),
        },
        _sets("table", "text"), ("bleu", "nist", "rouge_l"), _wikibio,
    ),
)  # fmt: skip
