"""Benchmarks in their official file formats, in files of a few rows, and in the real ones."""

from __future__ import annotations

import json

import pytest

from lorakit.core.errors import DataError, LorakitError, RecipeError
from lorakit.tasks import make_task
from lorakit.tasks.benchmarks import BENCHMARKS, benchmark_named
from lorakit.tasks.data import read_data, split_files, split_rows
from lorakit.tasks.options import DataOptions
from lorakit.train.identity import hash_files

MNLI = "index\tpromptID\tpairID\tgenre\tsentence1\tsentence2\tlabel1\tgold_label\n"
STSB = "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore\n"
# Benchmark -> {file: content}, then the first example of its dev split as the task reads it.
CHOICES = {
    "glue/cola": (
        {
            "CoLA/train.tsv": 'gj04\t1\t\tSaid "hi.\ngj04\t0\t*\tHi said.\n',
            "CoLA/dev.tsv": "gj04\t1\t\tThey sail.\n",
        },
        ("They sail.", None, 1),
    ),
    "glue/sst2": (
        {
            "SST-2/train.tsv": "sentence\tlabel\ngood \t1\nbad \t0\n",
            "SST-2/dev.tsv": "sentence\tlabel\nfine \t1\n",
        },
        ("fine ", None, 1),
    ),
    "glue/mrpc": (
        {
            "MRPC/train.tsv": "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\r\n"
            '1\t1\t2\tan "a\ta\r\n0\t3\t4\tb\tc\r\n',
            "MRPC/dev.tsv": "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\r\n"
            "0\t5\t6\tx\ty\r\n",
        },
        ("x", "y", 0),
    ),
    "glue/stsb": (
        {
            "STS-B/train.tsv": STSB + "0\tm\tf\t2012\t1\tn\tn\ta\tb\t5.000\n",
            "STS-B/dev.tsv": STSB + "1\tm\tf\t2012\t2\tn\tn\tc\td\t3.800\n",
        },
        ("c", "d", 3.8),
    ),
    "glue/qqp": (
        {
            "QQP/train.tsv": "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"
            "1\t1\t2\tq?\tr?\t0\n2\t3\t4\tbroken\nby a line?\tr?\t1\n3\t5\t6\ts?\tt?\t1\n",
            "QQP/dev.tsv": "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"
            "9\t7\t8\tu?\tv?\t1\n",
        },
        ("u?", "v?", 1),
    ),
    "glue/mnli": (
        {
            "MNLI/train.tsv": MNLI + "0\t1\t2\tg\ta\tb\tneutral\tneutral\n"
            "1\t1\t2\tg\ta\tb\tentailment\tentailment\n",
            "MNLI/dev_matched.tsv": MNLI + "0\t1\t2\tg\tc\td\tneutral\tneutral\n",
        },
        ("c", "d", 1),
    ),
    "glue/mnli-mm": (
        {
            "MNLI/train.tsv": MNLI + "0\t1\t2\tg\ta\tb\tneutral\tneutral\n"
            "1\t1\t2\tg\ta\tb\tentailment\tentailment\n",
            "MNLI/dev_mismatched.tsv": MNLI + "0\t1\t2\tg\te\tf\tentailment\tentailment\n",
        },
        ("e", "f", 0),
    ),
    "glue/qnli": (
        {
            "QNLI/train.tsv": "index\tquestion\tsentence\tlabel\n0\tq?\ts\tentailment\n"
            "1\tq?\ts\tnot_entailment\n",
            "QNLI/dev.tsv": "index\tquestion\tsentence\tlabel\n0\tr?\tt\tnot_entailment\n",
        },
        ("r?", "t", 1),
    ),
    "glue/rte": (
        {
            "RTE/train.tsv": "index\tsentence1\tsentence2\tlabel\n0\ta\tb\tentailment\n"
            "1\ta\tb\tnot_entailment\n",
            "RTE/dev.tsv": "index\tsentence1\tsentence2\tlabel\n0\tc\td\tentailment\n",
        },
        ("c", "d", 0),
    ),
    "glue/wnli": (
        {
            "WNLI/train.tsv": "index\tsentence1\tsentence2\tlabel\n0\ta\tb\t0\n1\ta\tb\t1\n",
            "WNLI/dev.tsv": "index\tsentence1\tsentence2\tlabel\n0\tc\td\t1\n",
        },
        ("c", "d", 1),
    ),
    "superglue/boolq": (
        {
            "BoolQ/train.jsonl": '{"question": "q", "passage": "p", "idx": 0, "label": true}\n'
            '{"question": "q", "passage": "p", "idx": 1, "label": false}\n',
            "BoolQ/val.jsonl": '{"question": "r", "passage": "s", "idx": 0, "label": true}\n',
        },
        ("r", "s", 1),
    ),
    "superglue/cb": (
        {
            "CB/train.jsonl": '{"premise": "p", "hypothesis": "h", "label": "neutral", "idx": 0}\n'
            '{"premise": "p", "hypothesis": "h", "label": "contradiction", "idx": 1}\n',
            "CB/val.jsonl": '{"premise": "a", "hypothesis": "b", "label": "neutral", "idx": 0}\n',
        },
        ("a", "b", 1),
    ),
    "superglue/copa": (
        {
            "COPA/train.jsonl": "".join(
                f'{{"premise": "p.", "choice1": "a", "choice2": "b", "question": "cause", '
                f'"label": {n}, "idx": {n}}}\n'
                for n in (0, 1)
            ),
            "COPA/val.jsonl": '{"premise": "It fell.", "choice1": "x", "choice2": "y", '
            '"question": "effect", "label": 1, "idx": 0}\n',
        },
        ("It fell. What was the effect?", "0: x 1: y", 1),
    ),
    "superglue/rte": (
        {
            "RTE/train.jsonl": '{"premise": "p", "hypothesis": "h", "label": "entailment"}\n'
            '{"premise": "p", "hypothesis": "h", "label": "not_entailment"}\n',
            "RTE/val.jsonl": '{"premise": "a", "hypothesis": "b", "label": "not_entailment"}\n',
        },
        ("a", "b", 1),
    ),
    "superglue/wic": (
        {
            "WiC/train.jsonl": '{"word": "w", "sentence1": "a", "sentence2": "b", "label": true}\n'
            '{"word": "w", "sentence1": "a", "sentence2": "b", "label": false}\n',
            "WiC/val.jsonl": '{"word": "bed", "sentence1": "c", "sentence2": "d", '
            '"label": false}\n',
        },
        ("bed: c", "bed: d", 0),
    ),
}


def lay_out(folder, files: dict[str, str]) -> str:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content.encode())
    return str(folder)


def options(name: str, place, **more) -> DataOptions:
    return DataOptions(benchmark=name, train=str(place), **more)


@pytest.mark.parametrize("name", CHOICES)
def test_a_choice_or_score_in_its_official_files(name, tmp_path):
    files, first = CHOICES[name]
    chosen = options(name, lay_out(tmp_path, files))
    task = make_task(benchmark_named(name).tasks[0], chosen)
    checked = read_data(chosen, task, 0)
    assert len(checked.train) >= 1
    assert checked.eval == [first]
    # The folder of the benchmark itself is as good as the one that holds it.
    inner = options(name, tmp_path / next(iter(files)).split("/")[0])
    assert read_data(inner, task, 0).eval == [first]
    names = [path.name for path in split_files(chosen, chosen.train, "eval")]
    assert names == [list(files)[1].split("/")[1]]


def test_every_choice_of_the_registry_is_tried():
    scored = {"classification", "regression"}
    assert set(CHOICES) == {n for n, own in BENCHMARKS.items() if own.tasks[0] in scored}


def test_lines_of_qqp_that_are_broken_are_left_out_and_said(tmp_path, caplog):
    lay_out(tmp_path, CHOICES["glue/qqp"][0])
    with caplog.at_level("WARNING", "lorakit"):
        rows = benchmark_named("glue/qqp").read(str(tmp_path), "train")
    assert [row.fields["id"] for row in rows] == ["1", "3"]
    assert [row.number for row in rows] == [2, 5]
    assert "2 lines lack columns" in caplog.text


def test_of_other_tables_a_broken_line_is_an_error_with_its_number(tmp_path):
    lay_out(tmp_path, {"SST-2/train.tsv": "sentence\tlabel\ngood\t1\nbad\n"})
    with pytest.raises(DataError, match=r"train.tsv, line 3: 1 columns; expected 2"):
        benchmark_named("glue/sst2").read(str(tmp_path), "train")


@pytest.mark.parametrize(
    ("name", "file", "content"),
    [
        ("glue/sst2", "SST-2/test.tsv", "index\tsentence\n0\tgood\n"),
        ("glue/cola", "CoLA/test.tsv", "index\tsentence\n0\tThey sail.\n"),
        ("superglue/cb", "CB/test.jsonl", '{"premise": "p", "hypothesis": "h", "idx": 0}\n'),
    ],
)
def test_a_test_set_without_labels_is_refused(name, file, content, tmp_path):
    lay_out(tmp_path, {file: content})
    with pytest.raises(DataError, match=r"1|2.*no 'label'.*another split, such as dev"):
        benchmark_named(name).read(str(tmp_path), "test")


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(RecipeError, match="'glue/sst2'"):
        benchmark_named("glue/sst-2")
    own = benchmark_named("glue/sst2")
    with pytest.raises(DataError, match=r"expected SST-2/train.tsv"):
        own.read(str(tmp_path), "train")
    with pytest.raises(DataError, match="no split 'tset'; it has train, dev, test"):
        own.read(str(tmp_path), "tset")
    with pytest.raises(DataError, match="is not there"):
        own.read(str(tmp_path / "nowhere"), "train")
    with pytest.raises(DataError, match="not read from the hub"):
        benchmark_named("dart").read("owner/dart", "train")
    with pytest.raises(RecipeError, match="Set task: classification"):
        make_task("completion", options("glue/sst2", tmp_path))


def test_a_users_own_field_wins_and_the_rest_is_the_benchmarks(tmp_path):
    task = make_task("classification", options("glue/qnli", tmp_path, text="{question} ?"))
    assert (task.options.text, task.options.pair) == ("{question} ?", "sentence")
    assert task.options.label == "label"


def test_training_chooses_by_the_main_metric(tmp_path):
    best = {
        name: make_task(own.tasks[0], options(name, tmp_path)).best
        for name, own in BENCHMARKS.items()
    }
    assert best["glue/cola"] == ("matthews", True)
    assert best["glue/stsb"] == ("pearson", True)
    assert best["superglue/cb"] == ("accuracy", True)
    assert best["e2e"] == best["perplexity"] == ("loss", False)
    assert make_task("classification", DataOptions(train="x")).best == ("accuracy", True)


SQUAD = {
    "version": "v2.0",
    "data": [
        {
            "title": "Rain",
            "paragraphs": [
                {
                    "context": "Rain falls on the plain in May.",
                    "qas": [
                        {
                            "id": "a", "question": "When?", "is_impossible": False,
                            "answers": [
                                {"text": "in May", "answer_start": 24},
                                {"text": "May", "answer_start": 27},
                            ],
                        },
                        {"id": "b", "question": "Who?", "is_impossible": True, "answers": []},
                    ],
                }
            ],
        }
    ],
}  # fmt: skip


def test_squad_keeps_all_answers_and_knows_that_there_can_be_none(tmp_path):
    (tmp_path / "dev-v2.0.json").write_text(json.dumps(SQUAD))
    one, two = benchmark_named("squad/v2").read(str(tmp_path), "dev")
    assert one.fields["answers"] == ["in May", "May"]
    assert two.fields["answer"] == "unanswerable"
    assert (two.number, two.unit) == (2, "question")
    chosen = options("squad/v2", tmp_path)
    pairs = make_task("completion", chosen).read([one, two], training=True)
    assert pairs[0] == ("Rain falls on the plain in May.\nWhen?\n", "in May")


def test_squad_in_another_form_is_refused(tmp_path):
    (tmp_path / "train-v1.1.json").write_text('{"data": [{"paragraphs": [{"qas": []}]}]}')
    (tmp_path / "dev-v1.1.json").write_text('{"rows": []}')
    own = benchmark_named("squad/v1")
    with pytest.raises(DataError, match="holds no rows"):
        own.read(str(tmp_path), "train")
    with pytest.raises(DataError, match="not in SQuAD's format"):
        own.read(str(tmp_path), "dev")
    hidden = {**SQUAD["data"][0]["paragraphs"][0], "qas": [
        {"id": "c", "question": "Why?", "answers": []}
    ]}  # fmt: skip
    (tmp_path / "dev-v1.1.json").write_text(json.dumps({"data": [{"paragraphs": [hidden]}]}))
    with pytest.raises(DataError, match="no 'answer'"):
        own.read(str(tmp_path), "dev")


def test_e2e_as_csv_and_as_lines(tmp_path):
    text = 'MR,ref\n"name[A], near[B]","A, near ""B""."\n"name[A], near[B]",A.\n'
    (tmp_path / "testset_w_refs.csv").write_text(text)
    (tmp_path / "my_train.jsonl").write_text('{"mr": "name[C]", "ref": "C."}\n')
    own = benchmark_named("e2e")
    test = own.read(str(tmp_path), "test")
    assert [row.fields["ref"] for row in test] == ['A, near "B".', "A."]
    assert {row.fields[str(own.group)] for row in test} == {"name[A], near[B]"}
    assert own.read(str(tmp_path), "train")[0].fields["mr"] == "name[C]"
    assert own.has(str(tmp_path), "test")
    assert not own.has(str(tmp_path), "dev")


ENTRY = """<entry category="{category}" eid="Id1" size="2">
<originaltripletset><otriple>X | y | Z</otriple></originaltripletset>
<modifiedtripletset><mtriple>Aarhus | country | Denmark</mtriple><mtriple>A | b | C</mtriple>
</modifiedtripletset>{texts}</entry>"""
ENGLISH = '<lex comment="good" lid="Id1" lang="en">Aarhus is in Denmark.</lex>'
ENRICHED = '<lex comment="good" lid="Id2"><sortedtripletset/><text>Denmark has it.</text></lex>'
RUSSIAN = '<lex comment="" lid="Id3" lang="ru">Да.</lex>'


def webnlg(*entries: tuple[str, str]) -> str:
    inside = "".join(ENTRY.format(category=c, texts=t) for c, t in entries)
    return f'<?xml version="1.0"?>\n<benchmark><entries>{inside}</entries></benchmark>'


def test_webnlg_groups_references_and_knows_seen_categories(tmp_path):
    lay_out(
        tmp_path,
        {
            "train/1triples/City.xml": webnlg(("City", ENGLISH)),
            "train/2triples/Food.xml": webnlg(("Food", ENGLISH)),
            "test/rdf-to-text-generation-test-data-with-refs-en.xml": webnlg(
                ("City", ENGLISH + ENRICHED + RUSSIAN), ("Film", ENGLISH)
            ),
        },
    )
    own = benchmark_named("webnlg")
    rows = own.read(str(tmp_path), "test")
    assert [row.fields["text"] for row in rows] == [
        "Aarhus is in Denmark.", "Denmark has it.", "Aarhus is in Denmark."
    ]  # fmt: skip
    assert rows[0].fields["triples"] == "Aarhus | country | Denmark && A | b | C"
    groups = [row.fields[str(own.group)] for row in rows]
    assert groups[0] == groups[1] != groups[2]
    seen, unseen = (own.read(str(tmp_path), f"test_{kind}") for kind in ("seen", "unseen"))
    assert [row.fields["category"] for row in seen] == ["City", "City"]
    assert [row.fields["category"] for row in unseen] == ["Film"]
    assert len(own.read(str(tmp_path), "train")) == 2


def test_webnlgs_third_release_has_files_of_one_name_and_another_task(tmp_path):
    other = webnlg(("City", ENGLISH)).replace("Aarhus |", "Paris |")
    lay_out(
        tmp_path,
        {
            "dev/1triples/City.xml": webnlg(("City", ENGLISH)), "dev/2triples/City.xml": other,
            "test/rdf-to-text-generation-test-data-with-refs-en.xml": webnlg(("City", ENGLISH)),
            "test/semantic-parsing-test-data-with-refs-en.xml": other,
        },
    )  # fmt: skip
    own = benchmark_named("webnlg")
    assert len({row.fields[str(own.group)] for row in own.read(str(tmp_path), "dev")}) == 2
    assert [row.fields["triples"][:6] for row in own.read(str(tmp_path), "test")] == ["Aarhus"]
    first = hash_files(own.find(str(tmp_path), "dev"))
    assert set(first) == {"1triples/City.xml", "2triples/City.xml"}


def test_webnlg_without_texts_or_without_xml_is_refused(tmp_path):
    lay_out(tmp_path, {"test/data.xml": webnlg(("City", "")), "dev/bad.xml": "<benchmark>"})
    with pytest.raises(DataError, match=r"entry 1: no 'text'"):
        benchmark_named("webnlg").read(str(tmp_path), "test")
    with pytest.raises(DataError, match="not valid XML"):
        benchmark_named("webnlg").read(str(tmp_path), "dev")


def test_dart(tmp_path):
    rows = [
        {
            "tripleset": [["Mars Hill", "JOINED", "1973"], ["Mars Hill", "IN", "NC"]],
            "subtree_was_extended": False,
            "annotations": [
                {"source": "WikiSQL", "text": "A school."}, {"source": "WikiSQL", "text": "It is."}
            ],
        },
        {"tripleset": [["A", "B", "C"]], "annotations": [{"source": "x", "text": "ABC."}]},
    ]  # fmt: skip
    (tmp_path / "dart-v1.1.1-full-dev.json").write_text(json.dumps(rows))
    own = benchmark_named("dart")
    found = own.read(str(tmp_path), "dev")
    assert [row.fields["text"] for row in found] == ["A school.", "It is.", "ABC."]
    assert found[0].fields["triples"] == "Mars Hill | JOINED | 1973 && Mars Hill | IN | NC"
    assert [row.number for row in found] == [1, 1, 2]
    assert len({row.fields[str(own.group)] for row in found}) == 2
    (tmp_path / "dart-v1.1.1-full-train.json").write_text('[{"tripleset": 3}]')
    with pytest.raises(DataError, match="row 1: expected the lists"):
        own.read(str(tmp_path), "train")


def test_wikibio(tmp_path):
    box = "name_1:ada\tname_2:king\timage:<none>\tborn_1:1815\tarticle_title_1:ada\n"
    files = {
        "valid/valid.box": box + "name_1:bo\n",
        "valid/valid.sent": "ada was one .\nshe wrote .\nbo is two .\n",
        "valid/valid.nb": "2\n1\n",
    }
    lay_out(tmp_path, files)
    one, two = benchmark_named("wikibio").read(str(tmp_path), "dev")
    assert one.fields == {
        "table": "name: ada king | born: 1815 | article_title: ada", "text": "ada was one ."
    }  # fmt: skip
    assert two.fields["text"] == "bo is two ."
    (tmp_path / "valid/valid.nb").write_text("2\n")
    with pytest.raises(DataError, match="2 boxes"):
        benchmark_named("wikibio").read(str(tmp_path), "dev")
    (tmp_path / "valid/valid.sent").unlink()
    with pytest.raises(DataError, match="side by side"):
        benchmark_named("wikibio").read(str(tmp_path), "dev")


def test_summaries_and_plain_text(tmp_path):
    (tmp_path / "cnn_val.jsonl").write_text('{"article": "Long.", "highlights": "L."}\n')
    (tmp_path / "train.jsonl").write_text('{"document": "Long.", "title": "L"}\n')
    row = benchmark_named("summaries").read(str(tmp_path), "dev")[0]
    assert (row.fields["document"], row.fields["summary"]) == ("Long.", "L.")
    with pytest.raises(DataError, match="no 'summary'"):
        benchmark_named("summaries").read(str(tmp_path), "train")
    (tmp_path / "wiki.test.raw").write_text(" = A = \n\n text\n")
    (row,) = benchmark_named("perplexity").read(str(tmp_path), "test")
    assert row.fields == {"text": " = A = \n\n text\n"}


def test_the_hubs_numbers_become_the_files_words(monkeypatch):
    import datasets

    mnli = {
        "premise": ["a", "b"], "hypothesis": ["c", "d"], "label": [2, 0], "idx": [0, 1]
    }  # fmt: skip
    stsb = {"sentence1": ["a"], "sentence2": ["b"], "label": [-1.0]}
    hidden = {"premise": ["a"], "hypothesis": ["c"], "label": [-1], "idx": [0]}
    squad = {
        "id": ["1"], "title": ["t"], "context": ["c"], "question": ["q"],
        "answers": [{"text": ["x", "y"], "answer_start": [0, 1]}],
    }  # fmt: skip
    kept = {
        ("nyu-mll/glue", "mnli"): {"validation_matched": mnli, "test_matched": hidden},
        ("nyu-mll/glue", "stsb"): {"test": stsb},
        ("rajpurkar/squad", None): {"train": squad},
    }

    def load(name, config=None):
        parts = kept[(name, config)]
        return datasets.DatasetDict(
            {split: datasets.Dataset.from_dict(rows) for split, rows in parts.items()}
        )

    monkeypatch.setattr(datasets, "load_dataset", load)
    rows = split_rows(options("glue/mnli", "x"), "nyu-mll/glue:mnli", "eval")
    assert [row.fields["gold_label"] for row in rows] == ["contradiction", "entailment"]
    assert rows[0].fields["sentence2"] == "c"
    with pytest.raises(DataError, match="no 'gold_label'"):
        split_rows(options("glue/mnli", "x"), "nyu-mll/glue:mnli", "test")
    with pytest.raises(DataError, match="no 'score'"):
        split_rows(options("glue/stsb", "x"), "nyu-mll/glue:stsb", "test")
    (row,) = split_rows(options("squad/v1", "x"), "rajpurkar/squad", "train")
    assert row.fields["answers"] == ["x", "y"]
    with pytest.raises(LorakitError, match="none of them for"):
        split_rows(options("squad/v1", "x"), "rajpurkar/squad", "dev")


@pytest.mark.real
def test_the_real_files_have_their_known_rows(real):
    counts = {
        "glue/cola": (8551, 1043), "glue/mrpc": (3667, 408), "glue/rte": (2490, 277),
        "glue/sst2": (67349, 872), "glue/stsb": (5749, 1500),
    }  # fmt: skip
    place = real / "datasets" / "glue"
    for name, wanted in counts.items():
        chosen = options(name, place)
        checked = read_data(chosen, make_task(benchmark_named(name).tasks[0], chosen), 0)
        assert (len(checked.train), len(checked.eval)) == wanted, name
    own, place = benchmark_named("e2e"), str(real / "datasets" / "e2e")
    rows = {split: own.read(place, split) for split in ("train", "dev", "test")}
    assert [len(found) for found in rows.values()] == [7433, 826, 1106]
    assert len({row.fields["mr"] for row in rows["test"]}) == 150
    limited = read_data(
        options("e2e", place, train_rows=20), make_task("completion", options("e2e", place)), 0
    )
    assert (len(limited.train), len(limited.eval)) == (20, 826)
