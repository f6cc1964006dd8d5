"""The page of methods, from records whose answers are known."""

from __future__ import annotations

import pytest
from made import record, rows_of

from lorakit.study import methods_page
from lorakit.study.roster import ROSTER

SCORES = {"lora": [0.80, 0.82, 0.84], "full": [0.90, 0.91, 0.92], "bitfit": [0.70, 0.72, 0.71]}


def made(scores=SCORES, task="glue/sst2", metric="eval_accuracy", **figures):
    told = {"lr": 1e-3, "at_edge": False, "tuning_steps": 7, **figures}
    return [
        record({"task": task, "method": method, "seed": seed}, value, metric, **told)
        for method, values in scores.items()
        for seed, value in enumerate(values)
    ]


def tables(shown):
    return {table.name: table for table in shown.tables}


def test_the_best_method_and_the_references_place():
    shown = methods_page.show(made(), "lora", {})
    assert shown.findings[0] == (
        "On glue/sst2 full is best (91.0); lora is at place 2 of 3 (82.0), with 1,000 parameters."
    )
    assert "Not told apart from lora by these runs: full, bitfit. 3 pairs" in shown.findings[1]
    table = tables(shown)["methods"]
    assert [column.heading for column in table.columns] == [
        "method", "trained parameters (k)", "sst2 (accuracy, %)",
    ]  # fmt: skip
    assert rows_of(table)["lora"][1].mean == pytest.approx(82)
    assert "**91.0 ± 2.5**" in table.markdown()  # t(2) is 4.303, times 1 / sqrt(3)
    assert {own.name for own in shown.pictures} == {"score-over-parameters", "score-over-seconds"}


def test_differences_are_those_of_pairs_and_p_is_corrected():
    found = rows_of(tables(methods_page.show(made(), "lora", {}))["compared"])
    assert set(found) == {"full", "bitfit"}
    difference, p, corrected, _, pairs = found["full"]
    assert difference.mean == pytest.approx(9)
    assert (p, corrected, pairs) == (0.25, 0.5, 3)


def test_enough_pairs_can_tell_methods_apart():
    many = {
        "lora": [0.80 + n / 1000 for n in range(8)], "full": [0.90 + n / 999 for n in range(8)],
        "bitfit": [0.70 + n / 998 for n in range(8)], "ia3": [0.8 + (-1) ** n / 100 for n in
        range(8)],
    }  # fmt: skip
    findings = methods_page.show(made(many), "lora", {}).findings
    assert "Significantly better than lora (p < 0.05, corrected): full." in findings
    assert "Significantly worse than lora (p < 0.05, corrected): bitfit." in findings
    assert "Not told apart from lora by these runs: ia3." in findings


def test_less_of_a_loss_is_better():
    scores = {"lora": [1.5, 1.6, 1.7], "full": [1.2, 1.2, 1.3]}
    shown = methods_page.show(made(scores, "own data", "eval_loss"), "lora", {})
    assert "On own data full is best (1.233); lora is at place 2 of 2 (1.6)" in shown.findings[0]
    assert rows_of(tables(shown)["compared"])["full"][0].mean == pytest.approx(0.3667, abs=1e-4)
    assert "**1.233" in tables(shown)["methods"].markdown()
    assert "paper" not in tables(shown)
    best = methods_page.show(made(scores, "own data", "eval_loss"), "full", {}).findings[0]
    assert best == "On own data full is best of 2 (1.233), with 1,000 parameters."


def test_an_average_needs_every_task_and_a_common_direction():
    two = made() + made({"lora": [0.4] * 3, "full": [0.6] * 3}, "glue/cola", "eval_matthews")
    shown = methods_page.show(two, "lora", {})
    rows = rows_of(tables(shown)["methods"])
    assert rows["lora"][-1].mean == pytest.approx((82 + 40) / 2)
    assert rows["bitfit"][2:] == [None, None]  # no score on the second task, and no average
    assert any("left out" in note for note in tables(shown)["methods"].notes)
    assert shown.findings[0].startswith("On average over 2 tasks full is best (75.5)")
    assert rows_of(tables(shown)["compared"])["full"][-1] == 6
    assert rows_of(tables(shown)["compared"])["bitfit"][-1] == 3
    mixed = methods_page.show(made() + made(task="own data", metric="eval_loss"), "lora", {})
    assert "average" not in [own.name for own in tables(mixed)["methods"].columns]
    assert mixed.pictures == []


def test_one_seed_has_no_intervals_and_no_p():
    shown = methods_page.show(made({"lora": [0.8], "full": [0.9]}), "lora", {})
    assert "±" not in tables(shown)["methods"].markdown()
    assert "no intervals" in tables(shown)["methods"].notes[0]
    assert rows_of(tables(shown)["compared"])["full"][1:3] == [None, None]
    assert "One pair has no p" in shown.findings[1]


def test_seeds_that_failed_leave_what_was_measured():
    records = made() + made({"lora": [0.4], "full": [0.5]}, "glue/rte")
    gone = [own for own in records if own.settings["method"] != "full" or own.settings["seed"] != 0]
    shown = methods_page.show(gone, "lora", {})
    rows = rows_of(tables(shown)["methods"])
    assert rows["full"][-1] is None  # no seed with both tasks
    assert rows["lora"][-1].mean == pytest.approx(60)
    full = [own for own in records if own.settings["method"] == "full"]
    alone = methods_page.show(full, "lora", {})
    assert alone.findings == []
    assert "compared" not in tables(alone)


def test_rates_at_an_edge_are_marked_and_the_paper_is_quoted():
    shown = methods_page.show(made(at_edge=True), "lora", {})
    assert rows_of(tables(shown)["takes"])["lora"] == ["1.0e-03 (edge)", 7, 2.0]
    assert rows_of(tables(shown)["paper"])["lora"] == [0.3, 95.1]
    shown = methods_page.show(made(task="glue/rte") + made(task="e2e"), "lora", {})
    assert rows_of(tables(shown)["paper"])["lora"] == [0.3, 86.6]
    assert rows_of(tables(shown)["paper-e2e"])["lora"] == [0.35, 70.4, 8.85, 46.8, 71.8, 2.53]
    assert not any("paper" in own for own in tables(methods_page.show(made(task="x"), "lora", {})))


def test_memory_is_shown_where_it_is_known():
    shown = methods_page.show(made(), "lora", {"lora": 30_000_000, "full": 90_000_000})
    rows = rows_of(tables(shown)["takes"])
    assert [rows[name][-1] for name in SCORES] == [30, 90, None]
    assert "score-over-memory" in {own.name for own in shown.pictures}
    alone = methods_page.show(made(), "lora", {"lora": 30_000_000})
    assert "score-over-memory" not in {own.name for own in alone.pictures}


def test_the_fastest_seed_is_the_time_of_a_run():
    records = made()
    for own, seconds in zip(records, (5.0, 3.0, 900.0)):  # one of them while others had the machine
        own.figures["seconds"] = seconds
    rows = rows_of(tables(methods_page.show(records, "lora", {}))["takes"])
    assert rows["lora"][-1] == 3


def test_figures_of_texts_have_a_table():
    texts = {"bleu": 50.0, "nist": 6.0, "cider": 1.5, "eval_loss": 1.0}
    shown = methods_page.show(made({"lora": [50.0] * 2}, "e2e", "bleu", **texts), "lora", {})
    assert [own.name for own in tables(shown)["texts-0"].columns] == [
        "method", "bleu", "nist", "cider", "evaluation loss",
    ]  # fmt: skip


def test_fifteen_methods_have_names_that_do_not_cover_each_other():
    from test_figures import assert_apart

    scores = {
        name: [0.8 + (n % 4) / 200 + s / 500 for s in range(3)] for n, name in enumerate(ROSTER)
    }
    sizes = {name: 10 ** (3 + n * 4 / 15) for n, name in enumerate(ROSTER)}
    records = [
        record(own.settings, own.figures["score"], **{
            **{k: v for k, v in own.figures.items() if k not in ("score", "metric",
            "more_is_better")}, "parameters": sizes[own.settings["method"]],
        })
        for own in made(scores)
    ]  # fmt: skip
    assert_apart(methods_page.show(records, "lora", {}).pictures[0].figure)


def test_ties_are_told_as_ties():
    equal = {"full": [0.5] * 2, "bitfit": [0.5] * 2, "lora": [0.5] * 2}
    assert methods_page.show(made(equal), "lora", {}).findings[0] == (
        "On glue/sst2 all 3 are equal (50.0)."
    )
    two = methods_page.show(made({**equal, "bitfit": [0.4] * 2}), "lora", {}).findings[0]
    assert two == "On glue/sst2 full and lora are best (50.0); lora has 1,000 parameters."
    last = methods_page.show(made({**equal, "ia3": [0.9] * 2}), "lora", {}).findings[0]
    assert "ia3 is best (90.0); lora is at place 2 of 4 (50.0)" in last


def test_scores_that_differ_in_kind_are_not_tested_together():
    records = made() + made({"lora": [0.4] * 3, "full": [0.3] * 3}, "own data", "eval_loss")
    assert "compared" not in tables(methods_page.show(records, "lora", {}))


def test_missing_seeds_are_named():
    records = made()
    shown = methods_page.show(records[:-1], "lora", {})  # a seed of bitfit has failed
    assert "bitfit on sst2 (2)" in " ".join(tables(shown)["methods"].notes)


def test_a_figure_that_one_machine_lacks_is_left_out_of_the_table():
    texts = {"bleu": 50.0, "nist": 6.0, "cider": 1.5, "ter": 40.0, "eval_loss": 1.0}
    whole = made({"lora": [50.0]}, "e2e", "bleu", meteor=40.0, **texts)
    records = whole + made({"full": [51.0]}, "e2e", "bleu", **texts)
    table = tables(methods_page.show(records, "lora", {}))["texts-0"]
    assert "meteor" not in {column.name for column in table.columns}
    assert {column.name: column.best for column in table.columns}["ter"] == "low"
