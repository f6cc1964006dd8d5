"""A study survives what ends it, measures nothing twice, and knows when it is another one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from counting import Counting, setting_for

from lorakit.core.errors import ResumeError, SaveError, Stopped, TrainingError
from lorakit.study.grid import CELLS, read_records, run_study
from lorakit.study.ledger import Ledger

ALL = [f"{number}/{seed}" for number in (1, 2, 3) for seed in (0, 1)]


def lines_of(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


@pytest.fixture
def journal(tmp_path) -> Path:
    return tmp_path / "journal"


def test_every_cell_is_measured_once_and_recorded(base, tmp_path, journal):
    study, setting = Counting(journal), setting_for(base, tmp_path / "out")
    done = run_study(study, setting)
    assert lines_of(journal) == ALL
    assert [own.settings for own in done.records] == [own.settings for own in study.cells(setting)]
    assert [own.figures["square"] for own in done.records] == [1, 2, 4, 5, 9, 10]
    assert done.failed == []
    names = {path.name for path in done.folder.iterdir() if path.name != ".lock"}
    assert names == {"cells.jsonl", "figures", "report.html", "study.json", "tables.md",
                     "tables.tex"}  # fmt: skip
    assert {p.name for p in (done.folder / "figures").iterdir()} == {"squares.png", "squares.svg"}
    again = run_study(study, setting)
    assert lines_of(journal) == ALL
    assert again.records == done.records
    assert len(json.loads((done.folder / "study.json").read_text())["runs"]) == 2


def test_an_exception_half_way_loses_nothing(base, tmp_path, journal):
    setting = setting_for(base, tmp_path / "out")

    class Broken(Counting):
        def measure(self, cells, setting, folder):
            for number, found in enumerate(super().measure(cells, setting, folder)):
                if cells[0].settings["number"] == 2 and number == 1:
                    raise ZeroDivisionError
                yield found

    with pytest.raises(ZeroDivisionError):
        run_study(Broken(journal), setting)
    recorded = len(lines_of(setting.out / CELLS))
    assert recorded == 3
    run_study(Counting(journal), setting)
    # The cell that was under way is measured again, the recorded ones are not.
    assert lines_of(journal) == [*ALL[:3], ALL[3], *ALL[3:]]


def test_control_c_ends_cleanly_and_the_study_goes_on(base, tmp_path, journal):
    setting = setting_for(base, tmp_path / "out")
    with pytest.raises(Stopped, match="3 of 6 cells"):
        run_study(Counting(journal, stop=(2, 1)), setting)
    done = run_study(Counting(journal), setting)
    assert len(done.records) == 6
    assert lines_of(journal) == [*ALL[:4], *ALL[3:]]


def test_a_killed_process_repeats_no_finished_cell(base, tmp_path, journal):
    out = tmp_path / "out"
    program = Path(__file__).with_name("counting.py")
    command = [sys.executable, str(program), base, str(out), str(journal)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 90
        while len(lines_of(out / CELLS)) < 2:
            assert process.poll() is None, "it ended by itself"
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    finished = len(lines_of(out / CELLS))
    assert 2 <= finished < 6
    before = lines_of(journal)
    done = run_study(Counting(journal, together=False), setting_for(base, out))
    after = lines_of(journal)[len(before) :]
    assert after == ALL[finished:]  # none of those that were recorded
    assert [own.figures["square"] for own in done.records] == [1, 2, 4, 5, 9, 10]


def test_a_torn_last_line_is_measured_again(base, tmp_path, journal):
    setting = setting_for(base, tmp_path / "out")
    run_study(Counting(journal), setting)
    cells = setting.out / CELLS
    whole = cells.read_bytes()
    cells.write_bytes(whole[:-9])
    run_study(Counting(journal), setting)
    assert lines_of(journal) == [*ALL, ALL[-1]]
    records = [json.loads(line) for line in cells.read_text().splitlines()]
    assert [own["figures"]["square"] for own in records] == [1, 2, 4, 5, 9, 10]


def test_a_damaged_line_in_the_middle_is_told(tmp_path):
    ledger = Ledger(tmp_path / "cells.jsonl")
    ledger.add({"a": 1})
    ledger.path.write_text('{"a": 1}\nnonsense\n{"a": 2}\n')
    with pytest.raises(SaveError, match="line 2"):
        ledger.read()
    ledger.path.write_text('{"a": 1}\n[1]\n')
    with pytest.raises(SaveError, match="line 2"):
        ledger.read()
    ledger.path.write_text('{"a": 1}\n{"a": 2}')  # whole as JSON, and yet nothing ends it
    assert ledger.read() == [{"a": 1}]
    ledger.mend()
    ledger.add({"a": 3})
    assert ledger.read() == [{"a": 1}, {"a": 3}]


def test_a_failed_cell_does_not_end_the_others(base, tmp_path, journal):
    setting = setting_for(base, tmp_path / "out")
    done = run_study(Counting(journal, fail=(2, 0)), setting)
    assert [own.settings for own in done.failed] == [{"number": 2, "seed": 0}]
    assert lines_of(journal) == ALL  # its neighbour in the group was measured once, too
    report = (setting.out / "report.html").read_text()
    assert "This cell &lt;fails&gt; &amp; says so." in report
    again = run_study(Counting(journal), setting)
    assert len(again.failed) == 1
    assert lines_of(journal) == ALL
    mended = run_study(Counting(journal), setting, retry=True)
    assert mended.failed == []
    assert lines_of(journal) == [*ALL, "2/0"]
    assert len(read_records(Ledger(setting.out / CELLS))) == 6


def test_where_nothing_could_be_measured_the_study_says_so(base, tmp_path, journal):
    setting = setting_for(base, tmp_path / "out", numbers=[7], seeds=[0])
    with pytest.raises(TrainingError, match=r"None of 1 cells.*says so"):
        run_study(Counting(journal, fail=(7, 0)), setting)


def test_figures_that_no_file_can_hold_are_an_error_of_their_cell(base, tmp_path, journal):
    class Infinite(Counting):
        def measure(self, cells, setting, folder):
            for cell, found in zip(cells, super().measure(cells, setting, folder)):
                yield {"square": float("nan")} if cell.settings["number"] == 2 else found

    done = run_study(Infinite(journal), setting_for(base, tmp_path / "out"))
    assert [own.settings["number"] for own in done.failed] == [2, 2]
    assert "not finite" in str(done.failed[0].error)


def test_another_study_is_refused_with_what_differs(base, tmp_path, journal, recipe):
    setting = setting_for(base, tmp_path / "out")
    setting = replace(setting, recipe=recipe)
    run_study(Counting(journal), setting)
    # What lies elsewhere, but is the same, is the same.
    run_study(Counting(journal), replace(setting, recipe=recipe.model_copy(
        update={"output": "elsewhere"})))  # fmt: skip

    def refused(other, words):
        with pytest.raises(ResumeError, match=words):
            run_study(Counting(journal), other)

    refused(replace(setting, options={"numbers": [1, 2], "seeds": [0, 1]}), r"options\.numbers was")
    train = recipe.train.model_copy(update={"lr": 0.5})
    refused(replace(setting, recipe=recipe.model_copy(update={"train": train})),
            r"recipe\.train\.lr was 0\.01 and is 0\.5")  # fmt: skip
    data = Path(recipe.data.train)
    content = data.read_text()
    data.write_text(content + content.splitlines()[0] + "\n")
    refused(setting, r"data\.train")
    data.write_text(content)
    folder = tmp_path / "model"
    folder.mkdir()
    for file in Path(base).iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    run_study(Counting(journal), replace(setting, model=str(folder)))  # a copy is the same
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    refused(replace(setting, model=str(folder)), r"model\.model\.safetensors")
    assert lines_of(journal) == ALL


def test_a_folder_of_somebody_else_is_left_alone(base, tmp_path, journal):
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("years of work")
    with pytest.raises(SaveError, match=r"thesis\.tex"):
        run_study(Counting(journal), setting_for(base, out))
    assert [path.name for path in out.iterdir() if path.name != ".lock"] == ["thesis.tex"]
    assert not journal.exists()


def test_two_processes_do_not_share_a_study(base, tmp_path, journal):
    from lorakit.train.lock import owned

    out = tmp_path / "out"
    out.mkdir()
    with owned(out), pytest.raises(TrainingError, match="Another process"):
        run_study(Counting(journal), setting_for(base, out))


def test_the_report_is_one_file_that_asks_nobody_for_anything(base, tmp_path, journal):
    setting = setting_for(base, tmp_path / "out")
    run_study(Counting(journal), setting)
    page = (setting.out / "report.html").read_text()
    for word in ("http:", "https:", 'src="//', "@import", "<link", "<script", "<iframe", "url("):
        assert word not in page
    assert page.count("src=") == page.count('src="data:image/svg+xml;base64,') == 1
    for raw in ("<b>roots</b>", "<i>n</i>", "<b>1</b>", "<em>it</em>", "<of>"):
        assert raw not in page
        assert raw.replace("<", "&lt;").replace(">", "&gt;") in page
    assert "color-scheme: light dark" in page
    assert 'name="viewport"' in page
    assert os.fspath(base) in page
    assert r"\toprule" in (setting.out / "tables.tex").read_text()
    assert "| --- | ---: |" in (setting.out / "tables.md").read_text()
