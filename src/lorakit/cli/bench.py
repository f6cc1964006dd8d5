"""`lorakit bench`."""

from __future__ import annotations

from typing import Any

import typer

ALL = "all"


def command(
    kind: str = typer.Argument(
        ALL,
        help="train: time of a step; modes: of compiled and checkpointed ones; memory: what a step "
        "keeps; peak: its most memory; infer: answers with one adapter; mixed: a batch of many; "
        "lifecycle: inject, load, switch, merge; all: every table.",
    ),
    case: list[int] = typer.Option(None, "--case", help="Rows of the table, from 1; repeat."),
    rounds: int = typer.Option(15, "--rounds", min=2, help="Rounds of timing."),
    model: str = typer.Option(None, "--model", help="Measure this causal model's folder instead."),
    cores: str = typer.Option(None, "--cores", help="Keep to these cores, as in 0,2-3."),
    threads: int = typer.Option(1, "--threads", min=1, help="Threads of the CPU."),
    device: str = typer.Option("cpu", "--device", help="cpu or cuda."),
    picture: str = typer.Option(None, "--picture", help="Write the bars to this PNG file."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Measure what adapters cost, beside PEFT, full fine-tuning and the frozen model.

    All ways take turns in one process, and ratios are taken round by round, so that a busy machine
    does not favour one. Example: `lorakit bench train --case 1 --rounds 30`
    """
    import sys
    from pathlib import Path

    import torch

    from lorakit.bench.kinds import KINDS, measure, with_model
    from lorakit.bench.table import as_json as to_json
    from lorakit.bench.table import machine, table
    from lorakit.bench.table import picture as draw
    from lorakit.bench.timing import keep_to
    from lorakit.cli.output import show

    chosen = _chosen(kind, case or [], alone=bool(picture))
    if model is not None:
        chosen = {name: with_model(KINDS[name], cases, model) for name, cases in chosen.items()}
    if cores is not None:
        keep_to(cores)
    torch.set_num_threads(threads)

    def tell(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    tables = {
        name: measure(KINDS[name], cases, rounds=rounds, device=device, progress=tell)
        for name, cases in chosen.items()
    }
    if picture is not None:
        draw(KINDS[kind].TITLE, tables[kind], Path(picture).expanduser())
    texts = [table(KINDS[name].TITLE, rows, KINDS[name].WHY) for name, rows in tables.items()]
    show("\n\n".join([machine(device), *texts]), to_json(tables, device), as_json=as_json)


def _chosen(kind: str, numbers: list[int], *, alone: bool) -> dict[str, list[Any]]:
    """The cases to measure, by kind of benchmark."""
    from lorakit.bench.kinds import KINDS
    from lorakit.core.errors import PlanError, did_you_mean

    known = (*KINDS, ALL)
    if kind not in known:
        raise PlanError(f"{kind!r} is no benchmark: {', '.join(known)}.{did_you_mean(kind, known)}")
    if kind == ALL and (numbers or alone):
        raise PlanError("--case and --picture are for one table: name it, as in `bench train`.")
    chosen = {name: list(KINDS[name].cases()) for name in (KINDS if kind == ALL else [kind])}
    grid = chosen.get(kind, [])
    odd = [number for number in numbers if not 1 <= number <= len(grid)]
    if odd:
        raise PlanError(f"--case {odd[0]} is not in the table: its rows are 1 to {len(grid)}.")
    return {kind: [grid[number - 1] for number in numbers]} if numbers else chosen
