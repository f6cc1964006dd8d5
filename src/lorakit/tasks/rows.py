"""Rows from files: every format that people keep data in, and where each row stands."""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorakit.core.errors import ODDITIES, DataError, did_you_mean, shortlist
from lorakit.tasks.strict_json import read_json

_PART = re.compile(r"-\d+(?=-of-\d+)")  # which part a file is, as datasets on the hub say it
SPLITS = {
    "train": ("train", "training"),
    "eval": ("dev", "eval", "val", "valid", "validation", "test"),
    "dev": ("dev", "eval", "val", "valid", "validation"),
    "test": ("test",),
}


@dataclass(frozen=True)
class Row:
    """One row: its fields, and the file and line (or number) to name when it is wrong."""

    fields: dict[str, Any]
    file: str
    number: int
    unit: str = "row"

    def error(self, problem: str) -> DataError:
        """The error that names this row."""
        return DataError(f"{self.file}, {self.unit} {self.number}: {problem}")


@dataclass(frozen=True)
class Source:
    """How to read text files: their encoding, and column names for csv without a header."""

    encoding: str = "utf-8"
    columns: tuple[str, ...] = ()


def read_rows(
    place: str, split: str, source: Source = Source(), limit: int | None = None
) -> list[Row]:
    """The rows of a file, a folder or a hub dataset, at most `limit`; or `DataError`.

    `split` chooses among the files of a folder that is laid out by split: "train", "dev", "test",
    or "eval", which is dev where there is one, else test.
    """
    if split not in SPLITS:
        raise DataError(f"The split is {split!r}; expected {', '.join(SPLITS)}.")
    path = Path(place).expanduser()
    if path.is_dir():
        rows = (row for file in _files(path, split) for row in read_file(file, source))
    elif path.exists():
        rows = read_file(path, source)
    elif is_hub_id(place):
        rows = hub_rows(place, SPLITS[split])
    else:
        raise no_place(place)
    found = [row for _, row in zip(range(limit), rows)] if limit else list(rows)
    if not found:
        raise DataError(f"{place} holds no rows. Name a file with at least one.")
    return found


def is_hub_id(place: str) -> bool:
    """Whether a place that is no local path can be a dataset of the hub, as owner/name:config."""
    local = Path(place).expanduser().parent.is_dir()
    return bool(re.fullmatch(r"[\w.-]+/[\w.-]+(:[\w.-]+)?", place)) and not local


def no_place(place: str) -> DataError:
    """The error for a path that is not there, with the nearest that is."""
    path = Path(place).expanduser()
    names = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    hint = did_you_mean(path.name, names) or " Check the path; it is taken from where you are."
    return DataError(f"{place} is not there.{hint}")


def data_files(place: str, split: str) -> list[Path]:
    """The files that `read_rows` reads, for hashing; none for a hub dataset."""
    path = Path(place).expanduser()
    if path.is_dir():
        return _files(path, split)
    return [path] if path.exists() else []


def has_split(place: str, split: str) -> bool:
    """Whether a folder has files whose names say that they are this split."""
    path = Path(place).expanduser()
    return path.is_dir() and bool(_named(_known_files(path), split))


def _files(folder: Path, split: str) -> list[Path]:
    files = _known_files(folder)
    if not files:
        raise DataError(f"{folder} has no data files; known are {', '.join(sorted(READERS))}.")
    if any(_named(files, name) for name in SPLITS):
        files = _named(files, split)
        if not files:
            raise DataError(
                f"{folder} has no file for {split}; expected one named "
                f"{' or '.join(SPLITS[split][:3])}. Name the file itself."
            )
        # Of dev and test, the first in the order of SPLITS is the one to evaluate on.
        files = files if split == "train" else _parts(files[0], files)
    kinds = {_kind(file) for file in files}
    if len(kinds) > 1:
        raise DataError(f"{folder} mixes {', '.join(sorted(kinds))} files. Name one file.")
    return files


def _known_files(folder: Path) -> list[Path]:
    skipped = ("readme", "license", "dataset_info", "dataset_infos", "state")
    return [
        file
        for file in sorted(folder.iterdir())
        if file.is_file() and _kind(file) in READERS and file.stem.lower() not in skipped
    ]


def _named(files: list[Path], split: str) -> list[Path]:
    found = []
    for word in SPLITS[split]:
        found += [file for file in files if word in re.split(r"[^a-z]+", file.name.lower())]
    return found


def _parts(first: Path, files: list[Path]) -> list[Path]:
    """The file, or where it is a part of a whole (dev-00000-of-00002), all parts."""
    whole = _PART.sub("", first.name)
    if whole == first.name:
        return [first]
    return [file for file in files if _PART.sub("", file.name) == whole]


def _kind(file: Path) -> str:
    suffixes = [suffix.lower() for suffix in file.suffixes]
    return suffixes[-2] if len(suffixes) > 1 and suffixes[-1] == ".gz" else "".join(suffixes[-1:])


def read_file(file: Path, source: Source) -> Iterator[Row]:
    """The rows of one file, by its ending; or `DataError`."""
    reader = READERS.get(_kind(file))
    if reader is None:
        raise DataError(
            f"{file} is of no known type; known are {', '.join(sorted(READERS))}. Convert it."
        )
    try:
        yield from reader(file, source)
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error}.") from error


def read_text(file: Path, source: Source) -> str:
    """The whole of a text file, which may be gzipped; or `DataError` that names the line."""
    data = _unzipped(file) if file.suffix == ".gz" else file.read_bytes()
    # A byte-order mark is no part of the first column's name.
    encoding = "utf-8-sig" if source.encoding.lower() in ("utf-8", "utf8") else source.encoding
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise DataError(
            f"{file}, line {line}: byte 0x{data[error.start]:02x} is not {source.encoding}. Set "
            "data.encoding, for example to latin-1."
        ) from error
    except (LookupError, ValueError):  # the latter for a name with NUL in it, or "undefined"
        raise DataError(
            f"data.encoding is {source.encoding[:60]!r}, which is no encoding. Set it to utf-8 or "
            "latin-1."
        ) from None


def _unzipped(file: Path) -> bytes:
    try:
        return gzip.decompress(file.read_bytes())
    except (EOFError, zlib.error) as error:
        raise DataError(f"{file} is damaged: {error}. Fetch it again.") from error


def _jsonl(file: Path, source: Source) -> Iterator[Row]:
    # Only "\n" ends a line here: other separators may stand inside of JSON texts.
    for number, line in enumerate(read_text(file, source).split("\n"), 1):
        if not line.strip():
            continue
        where = f"{file}, line {number}"
        yield Row(_object(read_json(line, where), where), str(file), number, "line")


def _json(file: Path, source: Source) -> Iterator[Row]:
    value = read_json(read_text(file, source), str(file))
    for number, row in enumerate(_listed(value, file), 1):
        yield Row(_object(row, f"{file}, row {number}"), str(file), number)


def _listed(value: Any, file: Path) -> list[Any]:
    if isinstance(value, list):
        return value
    columns = value if isinstance(value, dict) else {}
    lists = {key: v for key, v in columns.items() if isinstance(v, list)}
    if len(lists) == 1 and all(isinstance(row, dict) for row in next(iter(lists.values()))):
        return next(iter(lists.values()))
    if lists and len(lists) == len(columns) and len({len(v) for v in lists.values()}) == 1:
        return [dict(zip(lists, row)) for row in zip(*lists.values())]
    raise DataError(f"{file} holds no list of rows; expected [{{...}}, ...] or JSON lines.")


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DataError(f"{where}: a {type(value).__name__}; expected an object with fields.")
    return value


def _csv(file: Path, source: Source) -> Iterator[Row]:
    text = read_text(file, source)
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t|", key=first.count)
    yield from _table(text, file, source, delimiter=delimiter, strict=True)


def _tsv(file: Path, source: Source) -> Iterator[Row]:
    # In GLUE and its like a quote is a character of the text.
    yield from _table(read_text(file, source), file, source, delimiter="\t", quoting=csv.QUOTE_NONE)


def _table(text: str, file: Path, source: Source, **dialect: Any) -> Iterator[Row]:
    csv.field_size_limit(2**30)
    reader = csv.reader(io.StringIO(text, newline=""), **dialect)
    names = list(source.columns)
    try:
        for cells in reader:
            if not cells:
                continue
            if not names:
                names = _header(cells, file)
                continue
            if len(cells) != len(names):
                raise DataError(
                    f"{file}, line {reader.line_num}: {len(cells)} columns; the header has "
                    f"{len(names)} ({shortlist(names)}). Quote texts that hold the separator."
                )
            yield Row(dict(zip(names, cells)), str(file), reader.line_num, "line")
    except csv.Error as error:
        raise DataError(f"{file}, line {reader.line_num}: {error}.") from error


def _header(cells: list[str], file: Path) -> list[str]:
    names = [cell.strip() for cell in cells]
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None or not all(names):
        raise DataError(
            f"{file}, line 1: the header {shortlist(map(repr, cells))} has "
            f"{f'{twice!r} twice' if twice else 'a column without a name'}. If the file has no "
            "header, name its columns in data.columns."
        )
    return names


def _parquet(file: Path, _: Source) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        rows = pyarrow.parquet.read_table(file).to_pylist()
    except (pyarrow.ArrowException, *ODDITIES) as error:  # texts and times that are none
        raise DataError(f"{file} is no readable parquet file: {error}.") from error
    for number, row in enumerate(rows, 1):
        yield Row(row, str(file), number)


def _plain(file: Path, source: Source) -> Iterator[Row]:
    yield Row({"text": read_text(file, source)}, str(file), 1, "file")


READERS: dict[str, Callable[[Path, Source], Iterator[Row]]] = {
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".tsv": _tsv,
    ".parquet": _parquet,
    ".txt": _plain,
    ".md": _plain,
}


def hub_rows(place: str, words: Sequence[str]) -> Iterator[Row]:
    """The rows of a hub dataset's split, the first of these words that it has; or `DataError`."""
    import datasets

    name, _, config = place.partition(":")
    # The library raises errors of many unrelated kinds: each means that there are no rows.
    try:
        loaded = datasets.load_dataset(name, config or None)
    except Exception as error:
        raise DataError(
            f"{place} is no local file, and the hub dataset could not be fetched ({error}). Check "
            "the path, or the network."
        ) from error
    if not isinstance(loaded, datasets.DatasetDict):
        raise DataError(f"{place} has no splits to choose {words[0]} from.")
    chosen = next((word for word in words if word in loaded), None)
    if chosen is None:
        raise DataError(
            f"{place} has the splits {', '.join(map(str, loaded))}, none of them for {words[0]}."
        )
    for number, row in enumerate(loaded[chosen], 1):
        yield Row(dict(row), f"{place} ({chosen})", number)
