from __future__ import annotations

import gzip
import json

import pytest

from lorakit.core.errors import LorakitError
from lorakit.tasks.rows import Source, data_files, has_split, read_rows

ROWS = [{"text": 'wörds, "quoted"', "label": 1}, {"text": "more\twords", "label": 0}]


def write(folder, name: str, content: str | bytes):
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def fields(path: str, split: str = "train", **options) -> list[dict]:
    return [row.fields for row in read_rows(path, split, **options)]


def test_json_lines(tmp_path):
    text = "\n".join(json.dumps(row) for row in ROWS) + "\n\n"
    assert fields(write(tmp_path, "a.jsonl", text)) == ROWS
    assert fields(write(tmp_path, "a.jsonl.gz", gzip.compress(text.encode()))) == ROWS
    assert fields(write(tmp_path, "b.ndjson", "﻿" + text)) == ROWS


def test_a_line_separator_inside_of_a_text_ends_no_row(tmp_path):
    row = {"text": "one\u2028two\x85three"}
    text = json.dumps(row, ensure_ascii=False)
    assert fields(write(tmp_path, "a.jsonl", text)) == [row]


@pytest.mark.parametrize(
    "value",
    [ROWS, {"data": ROWS}, {"text": [r["text"] for r in ROWS], "label": [1, 0]}],
    ids=["list", "under a key", "columns"],
)
def test_json(tmp_path, value):
    assert fields(write(tmp_path, "a.json", json.dumps(value))) == ROWS


def test_csv_with_quotes_and_line_ends_in_texts(tmp_path):
    text = '﻿text,label\n"a, ""b""\nand c",1\r\nplain,0\n'
    assert fields(write(tmp_path, "a.csv", text)) == [
        {"text": 'a, "b"\nand c', "label": "1"},
        {"text": "plain", "label": "0"},
    ]
    assert fields(write(tmp_path, "b.csv", "text;label\nsemi, colon;1\n"))[0]["label"] == "1"


def test_tsv_has_plain_quotes(tmp_path):
    text = 'sentence\tlabel\nsaid "hi\t1\n'
    assert fields(write(tmp_path, "a.tsv", text)) == [{"sentence": 'said "hi', "label": "1"}]


def test_columns_for_files_without_a_header(tmp_path):
    source = Source(columns=("source", "label", "star", "text"))
    path = write(tmp_path, "a.tsv", "gj04\t1\t\tA sentence.\n")
    assert fields(path, source=source)[0] == {
        "source": "gj04", "label": "1", "star": "", "text": "A sentence."
    }  # fmt: skip


def test_parquet(tmp_path):
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    assert fields(str(tmp_path / "a.parquet")) == ROWS


def test_plain_text_is_one_document(tmp_path):
    assert fields(write(tmp_path, "a.txt", "one\n\ntwo\n")) == [{"text": "one\n\ntwo\n"}]


def test_other_encodings(tmp_path):
    path = write(tmp_path, "a.csv", "text,label\ncafé,1\n".encode("latin-1"))
    with pytest.raises(LorakitError, match=r"line 2: byte 0xe9 is not utf-8.*latin-1"):
        read_rows(path, "train")
    assert fields(path, source=Source("latin-1"))[0]["text"] == "café"


def test_all_parts_of_a_split_are_read(tmp_path):
    for part in range(2):
        for split in ("train", "validation", "test"):
            file = tmp_path / f"{split}-0000{part}-of-00002.jsonl"
            file.write_text(f'{{"text": "{split} {part}"}}\n')
    (tmp_path / "test-2015.jsonl").write_text('{"text": "another"}\n')
    for split, word in (("train", "train"), ("eval", "validation"), ("test", "test")):
        found = [row.fields["text"] for row in read_rows(str(tmp_path), split)]
        assert found == [f"{word} 0", f"{word} 1"]


def test_folders_by_split(tmp_path):
    for name, text in (("train", "a"), ("dev", "b"), ("test", "c")):
        write(tmp_path, f"{name}.jsonl", json.dumps({"text": text}))
    write(tmp_path, "README.md", "about")
    write(tmp_path, "licence.pdf", "legal")
    assert fields(str(tmp_path)) == [{"text": "a"}]
    assert fields(str(tmp_path), "eval") == [{"text": "b"}]
    assert has_split(str(tmp_path), "eval")
    assert [file.name for file in data_files(str(tmp_path), "train")] == ["train.jsonl"]


def test_folders_of_parts(tmp_path):
    for part in "21":
        write(tmp_path, f"part-{part}.txt", f"document {part}")
    assert fields(str(tmp_path)) == [{"text": "document 1"}, {"text": "document 2"}]
    assert not has_split(str(tmp_path), "eval")


def test_a_limit_reads_no_further(tmp_path):
    path = write(tmp_path, "a.jsonl", '{"text": "a"}\nthis is no JSON')
    assert fields(path, limit=1) == [{"text": "a"}]


def test_rows_know_where_they_stand(tmp_path):
    path = write(tmp_path, "a.csv", 'text,label\n"two\nlines",1\nplain,0\n')
    rows = read_rows(path, "train")
    assert [row.number for row in rows] == [3, 4]
    assert str(rows[1].error("bad")) == f"{path}, line 4: bad"
