"""`lorakit bench`."""

from __future__ import annotations

import typer

KINDS = ("train", "memory")


def command(
    kind: str = typer.Argument(..., help="train: time of a step; memory: what it keeps."),
    case: list[int] = typer.Option(None, "--case", help="Rows of the table, from 1; repeat."),
    rounds: int = typer.Option(15, "--rounds", min=2, help="Rounds of timing."),
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

    from lorakit.bench import memory, show, train
    from lorakit.cli.output import show as say
    from lorakit.core.errors import PlanError, did_you_mean

    if kind not in KINDS:
        raise PlanError(f"{kind!r} is no benchmark: {', '.join(KINDS)}.{did_you_mean(kind, KINDS)}")
    grid = train.cases()
    odd = [number for number in case or () if not 1 <= number <= len(grid)]
    if odd:
        raise PlanError(f"--case {odd[0]} is not in the table, which has rows 1 to {len(grid)}.")
    chosen = [grid[number - 1] for number in case] if case else grid
    torch.set_num_threads(threads)

    def tell(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    if kind == "train":
        rows = train.measure(chosen, rounds=rounds, device=device, progress=tell)
        text = show.train_table(rows)
        if picture is not None:
            show.picture(rows, Path(picture).expanduser())
        data = show.as_json(rows, device)
    else:
        kept = memory.measure(chosen, device=device, progress=tell)
        text, data = show.memory_table(kept), show.as_json(kept, device)
    say(f"{show.machine(device)}\n\n{text}", data, as_json=as_json)
