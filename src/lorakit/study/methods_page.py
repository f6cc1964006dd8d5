"""What the study of methods came to: the paper's tables 2 and 3, tests, and what it cost."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Literal

from lorakit.study.contrast import (
    Tested,
    better,
    compared,
    digits,
    figure,
    mean_of,
    metric,
    named,
    score,
    scored,
    seeds_of,
    weak,
)
from lorakit.study.figures import Axis, Picture
from lorakit.study.front import Point, pareto
from lorakit.study.kinds import Record, Shown
from lorakit.study.paper import quotations
from lorakit.study.roster import entry_named
from lorakit.study.statistics import Interval, interval
from lorakit.study.table import Column, Table

# Other figures of texts, shown beside the first, by their names and digits.
_TEXT = {"nist": 2, "rouge_l_coco": 1, "cider": 2, "meteor": 1, "ter": 1, "slot_accuracy": 3}
# What must be known of a method's own figures.
_NOTES = {
    "adalora": "The parameters of adalora are those that it ends with; it begins with half as many "
    "more.",
    "full": "Full and top are held as copies beside the base, so that several can share it: "
    "trained in place they would take so much less.",
}
Key = tuple[str, str]  # task, method


def show(records: Sequence[Record], reference: str, peaks: Mapping[str, int]) -> Shown:
    """Scores by method and task with intervals, paired tests with the reference, and trades.

    `peaks` are forecasts of the most bytes that a run of each method holds, as far as they are
    known.
    """
    cells = _cells(records)
    tasks = list(dict.fromkeys(task for task, _ in cells))
    methods = list(dict.fromkeys(method for _, method in cells))
    alike = len({better(own) for own in cells.values()}) == 1  # else no average has a meaning
    means = {m: own for m in methods if alike and (own := _average(cells, tasks, m))}
    tables = [_scores(cells, tasks, methods, means), *_texts(cells, tasks, methods)]
    tests = _tests(cells, tasks, methods, reference) if alike else {}
    if tests:
        tables.append(_compared(tests, reference))
    tables.append(_takes(cells, tasks, methods, peaks))
    tables += quotations(tasks)
    findings = [*_places(cells, tasks, means, reference), *_told(tests, reference)]
    return Shown(findings, tables, _trades(cells, tasks, means, peaks))


def _cells(records: Sequence[Record]) -> dict[Key, list[Record]]:
    found: dict[Key, list[Record]] = {}
    for own in records:
        found.setdefault((own.settings["task"], own.settings["method"]), []).append(own)
    return found


def _average(cells: dict[Key, list[Record]], tasks: Sequence[str], method: str) -> Interval | None:
    """The mean over tasks, each seed's by itself; None where no seed has been through all tasks."""
    seeds: dict[int, list[float]] = {}
    for task in tasks:
        for own in cells.get((task, method), []):
            seeds.setdefault(own.settings["seed"], []).append(score(own))
    whole = [statistics.fmean(own) for own in seeds.values() if len(own) == len(tasks)]
    return interval(whole) if whole else None


def _scores(
    cells: dict[Key, list[Record]], tasks: Sequence[str], methods: Sequence[str],
    means: dict[str, Interval],
) -> Table:  # fmt: skip
    firsts = [next(own for (t, _), own in cells.items() if t == task) for task in tasks]
    kinds = [named(str(own[0].figures["metric"])) for own in firsts]
    best: list[Literal["high", "low"]] = ["high" if better(own) else "low" for own in firsts]
    decimals = [digits(own) for own in firsts]
    columns = [
        Column("method"), Column("trained parameters", "k", digits=1),
        *(
            Column(_short(task), ", ".join(filter(None, kind)), number, side)
            for task, kind, number, side in zip(tasks, kinds, decimals, best)
        ),
    ]  # fmt: skip
    averaged = len(tasks) > 1 and bool(means)
    if averaged:
        columns.append(
            Column("average", digits=max(decimals, key=lambda own: own or 0), best=best[0])
        )
    rows = []
    for method in methods:
        held = [cells.get((task, method)) for task in tasks]
        size = next(mean_of(own, "parameters") for own in held if own) / 1e3
        scores = [scored(own) if own else None for own in held]
        rows.append([method, size, *scores, *([means.get(method)] if averaged else [])])
    told = seeds_of(cells)
    notes = [
        f"{told[0].upper()}{told[1:]}, every method at the learning rate that the same search "
        "found for it on rows held out of training. Parameters with those of a new head, which "
        "every method trains.",
    ]
    if averaged and len(means) < len(methods):
        notes.append("An average is left out where no seed has a score on every task.")
    fewer = _fewer(cells)
    if fewer:
        notes.append(f"Of fewer seeds than others, as runs failed: {', '.join(fewer)}.")
    if "adalora" in methods:
        notes.append(_NOTES["adalora"])
    return Table("methods", "Methods, by task", columns, rows, notes)


def _texts(
    cells: dict[Key, list[Record]], tasks: Sequence[str], methods: Sequence[str]
) -> list[Table]:
    """A table of all figures of texts, for each task that has some."""
    found = []
    for task in tasks:
        own = [record for (t, _), records in cells.items() if t == task for record in records]
        # A figure that some of the machines could not make is left out.
        names = [name for name in _TEXT if all(name in record.figures for record in own)]
        if not names:
            continue
        head = own[0].figures["metric"]
        columns = [
            Column("method"), Column(named(head)[0], digits=1, best="high"),
            *(
                Column(named(n)[0], digits=_TEXT[n], best="low" if n == "ter" else "high")
                for n in names
            ),
            Column("evaluation loss", "nats per token", digits=3, best="low"),
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
) -> dict[str, Tested]:
    """Each method against the reference over all pairs of task and seed, p corrected (Holm)."""
    runs = {m: [own for task in tasks for own in cells.get((task, m), [])] for m in methods}
    if reference not in runs:
        return {}
    return compared({m: (own, runs[reference]) for m, own in runs.items() if m != reference})


def _compared(tests: dict[str, Tested], reference: str) -> Table:
    columns = [
        Column("method"), Column(f"better than {reference} by"), Column("p"),
        Column("p, corrected"), Column("effect", "sd", digits=2), Column("pairs"),
    ]  # fmt: skip
    rows = [
        [name, own.difference, own.p, p, own.effect, own.difference.n]
        for name, (own, p) in tests.items()
    ]
    notes = [
        "Differences in the scores' own units over pairs of the same task and seed: above 0 is "
        "better, whether more or less of the score is. P by flips of their signs, corrected for "
        "the number of methods (Holm); effect: the mean difference over its standard deviation. "
        "They speak of these tasks: on others a difference may be another one.",
        *filter(None, [weak(tests)]),
    ]
    return Table("compared", f"Each method against {reference}", columns, rows, notes)


def _takes(
    cells: dict[Key, list[Record]], tasks: Sequence[str], methods: Sequence[str],
    peaks: Mapping[str, int],
) -> Table:  # fmt: skip
    columns = [Column("method"), *(Column(f"rate, {_short(task)}") for task in tasks),
               Column("steps of search", digits=0), Column("a run", "s", digits=1),
               *([Column("peak", "MB", digits=0)] if peaks else [])]  # fmt: skip
    rows = []
    for method in methods:
        held = [cells.get((task, method)) for task in tasks]
        rates = [
            f"{own[0].figures['lr']:.1e}{' (edge)' * own[0].figures['at_edge']}" if own else None
            for own in held
        ]
        some = [own for own in held if own]
        spent = sum(own[0].figures["tuning_steps"] for own in some)
        peak = [peaks[method] / 1e6 if method in peaks else None] if peaks else []
        rows.append([method, *rates, spent, _seconds(some), *peak])
    notes = [
        "edge: the best rate is the lowest or the highest that was tried, and a better one may lie "
        "beyond. Steps of search are those of all tasks. A run: the fastest of the seeds, as what "
        "else a machine does can only add to it, and the mean over tasks.",
    ]
    if peaks:
        notes.append("Peak: the forecast of the most that a run holds, on the longest rows.")
        notes += [_NOTES["full"]] if {"full", "top"} & {*methods} else []
    return Table("takes", "Learning rates that were found, time and memory", columns, rows, notes)


def _seconds(held: Sequence[Sequence[Record]]) -> float:
    """The time of a run: of each task that of the fastest seed."""
    return statistics.fmean(min(r.figures["seconds"] for r in own) for own in held)


def _short(task: str) -> str:
    return task.rpartition("/")[2]


def _places(
    cells: dict[Key, list[Record]], tasks: Sequence[str], means: dict[str, Interval],
    reference: str,
) -> list[str]:  # fmt: skip
    """Which methods are best as far as is shown, and at which place the reference is."""
    if reference not in means or len(means) < 2:
        return []
    some = cells[tasks[0], reference]
    told = {name: figure(own.mean, some) for name, own in means.items()}
    order = sorted(means, key=lambda name: float(told[name]), reverse=better(some))
    best = [name for name in order if told[name] == told[order[0]]]
    equal = [name for name in order if told[name] == told[reference]]
    place = f"at place {order.index(equal[0]) + 1} of {len(order)}"
    size = f"{mean_of(some, 'parameters'):,.0f} parameters"
    over = f"On average over {len(tasks)} tasks" if len(tasks) > 1 else f"On {tasks[0]}"
    if len(best) == len(order):
        return [f"{over} all {len(order)} are equal ({told[reference]})."]
    if best == [reference]:
        return [f"{over} {reference} is best of {len(order)} ({told[reference]}), with {size}."]
    are = f"{' and '.join(best)} {'are' if len(best) > 1 else 'is'} best ({told[order[0]]})"
    if reference in best:
        return [f"{over} {are}; {reference} has {size}."]
    return [f"{over} {are}; {reference} is {place} ({told[reference]}), with {size}."]


def _fewer(cells: dict[Key, list[Record]]) -> list[str]:
    """The methods of which some seeds of a task are missing, with how many there are."""
    most = max(len(own) for own in cells.values())
    return [f"{m} on {_short(t)} ({len(own)})" for (t, m), own in cells.items() if len(own) < most]


def _told(tests: dict[str, Tested], reference: str) -> list[str]:
    """What differs from the reference for sure, and what cannot be told."""
    sure = {
        name: own.difference.mean > 0
        for name, (own, p) in tests.items() if p is not None and p < 0.05
    }  # fmt: skip
    lines = [
        f"Significantly {what} than {reference} (p < 0.05, corrected): "
        f"{', '.join(name for name, up in sure.items() if up == above)}."
        for above, what in ((True, "better"), (False, "worse")) if above in sure.values()
    ]  # fmt: skip
    rest = [name for name in tests if name not in sure]
    if rest:
        few = weak(tests)
        lines.append(
            f"Not told apart from {reference} by these runs: {', '.join(rest)}."
            f"{f' {few}' if few else ''}"
        )
    return lines


def _trades(
    cells: dict[Key, list[Record]], tasks: Sequence[str], means: dict[str, Interval],
    peaks: Mapping[str, int],
) -> list[Picture]:  # fmt: skip
    """The score against each cost that is known of two methods at least."""
    if len(means) < 2:
        return []
    some = cells[tasks[0], next(iter(means))]
    label = "average score" if len(tasks) > 1 else metric(some)
    held = {m: [cells[task, m] for task in tasks] for m in means}
    sizes = {m: statistics.fmean(mean_of(r, "parameters") for r in own) for m, own in held.items()}
    known = {m: peaks[m] / 1e6 for m in means if m in peaks}
    costs = (
        ("parameters", "trained parameters", Axis("trained parameters", log=True), sizes),
        ("seconds", "the time of a run", Axis("time of a run (s)"),
         {m: _seconds(own) for m, own in held.items()}),
        ("memory", "the memory of a run", Axis("peak memory, forecast (MB)"), known),
    )  # fmt: skip
    return [
        pareto(
            f"score-over-{name}",
            f"Score against {what}, with 95 % intervals; nothing beats those on the line at its "
            "cost.",
            axis, Axis(label),
            [Point(m, cost, means[m].mean, means[m].low, means[m].high, entry_named(m).family)
             for m, cost in of.items()],
            more_is_better=better(some),
        )
        for name, what, axis, of in costs if len(of) > 1
    ]  # fmt: skip
