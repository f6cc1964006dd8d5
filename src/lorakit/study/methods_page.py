"""What the study of methods came to: the paper's tables 2 and 3, tests, and what it cost."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any, Literal

from lorakit.study.figures import Axis, Picture
from lorakit.study.front import Point, pareto
from lorakit.study.kinds import Record, Shown
from lorakit.study.roster import entry_named
from lorakit.study.statistics import Interval, holm, interval, paired
from lorakit.study.table import Column, Table

# Hu et al. 2021, table 2, RoBERTa base: trained parameters in millions, then scores by task.
PAPER = {
    "full": (125.0, {"glue/sst2": 94.8, "glue/mrpc": 90.2, "glue/cola": 63.6, "glue/rte": 78.7,
                     "glue/stsb": 91.2}),
    "bitfit": (0.1, {"glue/sst2": 93.7, "glue/mrpc": 92.7, "glue/cola": 62.0, "glue/rte": 81.5,
                     "glue/stsb": 90.8}),
    "lora": (0.3, {"glue/sst2": 95.1, "glue/mrpc": 89.7, "glue/cola": 63.4, "glue/rte": 86.6,
                   "glue/stsb": 91.5}),
}  # fmt: skip
_SHARES = ("eval_accuracy", "eval_matthews", "eval_pearson", "eval_f1", "eval_spearman")
# Other figures of texts, shown beside the first, by their names and digits.
_TEXT = {"nist": 2, "rouge_l_coco": 1, "cider": 2, "meteor": 1, "slot_accuracy": 3}
Key = tuple[str, str]  # task, method


def show(records: Sequence[Record], reference: str) -> Shown:
    """Scores by method and task with intervals, paired tests with the reference, and trades."""
    cells = _cells(records)
    tasks = list(dict.fromkeys(task for task, _ in cells))
    methods = list(dict.fromkeys(method for _, method in cells))
    whole = [m for m in methods if all((task, m) in cells for task in tasks)]
    means = {m: _average(cells, tasks, m) for m in whole}
    tables = [_scores(cells, tasks, methods, means), *_texts(cells, tasks, methods)]
    tests = _tests(cells, tasks, whole, reference)
    tables += [_compared(tests, reference), _rates(cells, tasks, methods)]
    quoted = _quoted(tasks)
    tables += [quoted] if quoted else []
    return Shown(
        _findings(cells, tasks, means, tests, reference), tables,
        _trades(cells, tasks, whole, means),
    )  # fmt: skip


def _cells(records: Sequence[Record]) -> dict[Key, list[Record]]:
    found: dict[Key, list[Record]] = {}
    for own in records:
        found.setdefault((own.settings["task"], own.settings["method"]), []).append(own)
    return found


def _score(record: Record) -> float:
    """The score as tables have it: shares times 100."""
    figures = record.figures
    return figures["score"] * (100 if figures["metric"] in _SHARES else 1)


def _figure(records: Sequence[Record], name: str) -> float:
    return statistics.fmean(own.figures[name] for own in records)


def _average(cells: dict[Key, list[Record]], tasks: Sequence[str], method: str) -> Interval:
    """The mean over tasks, each seed's by itself, with its interval over seeds."""
    seeds: dict[int, list[float]] = {}
    for task in tasks:
        for own in cells[task, method]:
            seeds.setdefault(own.settings["seed"], []).append(_score(own))
    return interval([statistics.fmean(v) for v in seeds.values() if len(v) == len(tasks)])


def _scores(
    cells: dict[Key, list[Record]], tasks: Sequence[str], methods: Sequence[str],
    means: dict[str, Interval],
) -> Table:  # fmt: skip
    first = {task: next(r for (t, _), r in cells.items() if t == task)[0].figures for task in tasks}
    best: dict[str, Literal["high", "low"]] = {
        task: "high" if first[task]["more_is_better"] else "low" for task in tasks
    }
    columns = [
        Column("method"), Column("trained parameters", "k", digits=1),
        *(
            Column(task.rpartition("/")[2], _metric(first[task]["metric"]), digits=1 if
                   first[task]["metric"] in _SHARES else None, best=best[task])
            for task in tasks
        ),
        *([Column("average", digits=1, best="high")] if len(tasks) > 1 else []),
    ]  # fmt: skip
    rows = []
    for method in methods:
        held = [cells.get((task, method)) for task in tasks]
        size = next(_figure(own, "parameters") for own in held if own) / 1e3
        scores = [interval([_score(r) for r in own]) if own else None for own in held]
        rows.append([method, size, *scores, *([means.get(method)] if len(tasks) > 1 else [])])
    seeds = len(next(iter(cells.values())))
    notes = [
        f"Means over {seeds} seeds with 95 % intervals (Student's t), every method at the learning "
        "rate that the same search found for it on rows held out of training. Parameters with "
        "those of a new head, which every method trains.",
    ]
    return Table("methods", "Methods, by task", columns, rows, notes)


def _texts(
    cells: dict[Key, list[Record]], tasks: Sequence[str], methods: Sequence[str]
) -> list[Table]:
    """A table of all figures of texts, for each task that has some."""
    found = []
    for task in tasks:
        some = next(own for (t, _), own in cells.items() if t == task)[0].figures
        names = [name for name in _TEXT if name in some]
        if not names:
            continue
        head = some["metric"]
        columns = [
            Column("method"), Column(head, digits=1, best="high"),
            *(Column(name, digits=_TEXT[name], best="high") for name in names),
            Column("eval_loss", digits=3, best="low"),
        ]  # fmt: skip
        rows = [
            [
                method,
                *(
                    interval([r.figures[name] for r in cells[task, method]])
                    for name in (head, *names, "eval_loss")
                ),
            ]
            for method in methods
            if (task, method) in cells
        ]
        found.append(Table(f"texts-{len(found)}", f"Texts written for {task}", columns, rows))
    return found


def _tests(
    cells: dict[Key, list[Record]], tasks: Sequence[str], methods: Sequence[str], reference: str
) -> dict[str, Any]:
    """Each method against the reference over all pairs of task and seed, p corrected (Holm)."""
    if reference not in methods:
        return {}
    found = {}
    for method in methods:
        if method == reference:
            continue
        pairs = [
            (_signed(one), _signed(two))
            for task in tasks
            for one in cells[task, method]
            for two in cells[task, reference]
            if one.settings["seed"] == two.settings["seed"]
        ]
        found[method] = paired(*map(list, zip(*pairs)))
    known = [name for name, own in found.items() if own.p is not None]
    adjusted = dict(zip(known, holm([found[name].p for name in known])))
    return {name: (own, adjusted.get(name)) for name, own in found.items()}


def _signed(record: Record) -> float:
    return _score(record) if record.figures["more_is_better"] else -_score(record)


def _compared(tests: dict[str, Any], reference: str) -> Table:
    columns = [
        Column("method"), Column(f"above {reference}"), Column("p", digits=3),
        Column("p, corrected", digits=3), Column("effect", "sd", digits=2), Column("pairs"),
    ]  # fmt: skip
    rows = [
        [name, own.difference, own.p, p, own.effect, own.difference.n]
        for name, (own, p) in tests.items()
    ]
    notes = [
        "Differences over pairs of the same task and seed; p by flips of their signs, corrected "
        "for the number of methods (Holm). With a few seeds of one task no p can be small.",
    ]
    return Table("compared", f"Each method against {reference}", columns, rows, notes)


def _rates(cells: dict[Key, list[Record]], tasks: Sequence[str], methods: Sequence[str]) -> Table:
    columns = [Column("method"), *(Column(task.rpartition("/")[2]) for task in tasks),
               Column("steps of search", digits=0), Column("a run", "s", digits=1)]  # fmt: skip
    rows = []
    for method in methods:
        held = [cells.get((task, method)) for task in tasks]
        rates = [
            f"{own[0].figures['lr']:.1e}{' (edge)' * own[0].figures['at_edge']}" if own else None
            for own in held
        ]
        some = [own for own in held if own]
        spent = sum(own[0].figures["tuning_steps"] for own in some)
        rows.append([method, *rates, spent, statistics.fmean(_figure(o, "seconds") for o in some)])
    notes = ["edge: the best rate is the lowest or the highest that was tried."]
    return Table("rates", "Learning rates that were found, and time", columns, rows, notes)


def _quoted(tasks: Sequence[str]) -> Table | None:
    shared = [task for task in tasks if task in PAPER["lora"][1]]
    if not shared:
        return None
    columns = [Column("method"), Column("trained parameters", "M", quoted=True),
               *(Column(task.rpartition("/")[2], quoted=True) for task in shared)]  # fmt: skip
    rows = [[name, size, *(of[task] for task in shared)] for name, (size, of) in PAPER.items()]
    notes = [
        "RoBERTa base (125 M) on all training rows, Hu et al. 2021, table 2: another base and more "
        "rows, so that differences between methods can be compared, and levels cannot.",
    ]
    return Table("paper", "What the paper reports", columns, rows, notes)


def _metric(name: str) -> str:
    return name.removeprefix("eval_")


def _findings(
    cells: dict[Key, list[Record]], tasks: Sequence[str], means: dict[str, Interval],
    tests: dict[str, Any], reference: str,
) -> list[str]:  # fmt: skip
    if reference not in means or len(means) < 2:
        return []
    more = all(own[0].figures["more_is_better"] for own in cells.values())
    order = sorted(means, key=lambda name: means[name].mean, reverse=more)
    sizes = {m: _figure(cells[tasks[0], m], "parameters") for m in means}
    lines = [
        f"On average over {len(tasks)} task{'s' * (len(tasks) > 1)} {order[0]} is best "
        f"({means[order[0]].mean:.1f}), {reference} is at place {order.index(reference) + 1} of "
        f"{len(order)} ({means[reference].mean:.1f}) with {sizes[reference]:,.0f} parameters."
    ]
    above = [n for n, (own, p) in tests.items() if p is not None and p < 0.05 and
             own.difference.mean > 0]  # fmt: skip
    below = [n for n, (own, p) in tests.items() if p is not None and p < 0.05 and
             own.difference.mean < 0]  # fmt: skip
    open_ = [name for name in tests if name not in (*above, *below)]
    for names, what in ((above, "above"), (below, "below")):
        if names:
            lines.append(f"Significantly {what} {reference} (p < 0.05, corrected): "
                         f"{', '.join(names)}.")  # fmt: skip
    if open_:
        lines.append(f"Not told apart from {reference} by these runs: {', '.join(open_)}.")
    return lines


def _trades(
    cells: dict[Key, list[Record]], tasks: Sequence[str], methods: Sequence[str],
    means: dict[str, Interval],
) -> list[Picture]:  # fmt: skip
    if len(methods) < 2:
        return []
    more = all(own[0].figures["more_is_better"] for own in cells.values())
    metric = cells[tasks[0], methods[0]][0].figures["metric"]
    label = "average score" if len(tasks) > 1 else _metric(metric)

    def points(name: str) -> list[Point]:
        return [
            Point(
                m, statistics.fmean(_figure(cells[task, m], name) for task in tasks),
                means[m].mean, means[m].low, means[m].high, entry_named(m).family,
            )
            for m in methods
        ]  # fmt: skip

    return [
        pareto(
            f"score-over-{name}", f"Score against {what}; nothing beats the methods on the line.",
            axis, Axis(label), points(name), more_is_better=more,
        )
        for name, what, axis in (
            ("parameters", "trained parameters", Axis("trained parameters", log=True)),
            ("seconds", "the time of a run", Axis("time of a run (s)")),
        )
    ]  # fmt: skip
