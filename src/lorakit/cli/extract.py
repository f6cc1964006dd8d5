"""`lorakit extract`."""

from __future__ import annotations

import typer


def command(
    base: str = typer.Argument(help="The base's folder."),
    tuned: str = typer.Argument(help="The folder of a full fine-tune of it."),
    out: str = typer.Option(..., "--out", "-o", help="The folder to write."),
    rank: int = typer.Option(None, "--rank", help="At most this rank everywhere."),
    energy: float = typer.Option(None, "--energy", help="Share of squared norm to keep, as 0.95."),
    params: int = typer.Option(None, "--params", help="Parameters for the whole adapter."),
    drop: bool = typer.Option(False, "--drop", help="Leave out what can be no adapter."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON, with the error per layer."),
) -> None:
    """Write the adapter that is in a full fine-tune, and say how near it comes.

    Example: `lorakit extract base tuned --rank 16 --out adapter`
    """
    import sys

    from tqdm import tqdm

    from lorakit.cli.output import show
    from lorakit.models.extract import extract

    with tqdm(desc="layers", file=sys.stderr, unit="layer") as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        made = extract(
            base, tuned, rank=rank, energy=energy, params=params, drop=drop, out=out,
            progress=progress,
        )  # fmt: skip
    show(str(made), made.as_dict(), as_json=as_json)
