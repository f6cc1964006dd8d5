"""`lorakit resize`."""

from __future__ import annotations

import typer


def command(
    adapter: str = typer.Argument(help="An adapter's folder or file."),
    out: str = typer.Option(..., "--out", "-o", help="The folder to write."),
    rank: int = typer.Option(None, "--rank", help="At most this rank everywhere."),
    energy: float = typer.Option(None, "--energy", help="Share of squared norm to keep, as 0.95."),
    params: int = typer.Option(None, "--params", help="Parameters for the whole adapter."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON, with the error per module."),
) -> None:
    """Write the nearest adapter of smaller ranks, and say how near it is.

    Example: `lorakit resize runs/e2e/adapter --energy 0.95 --out small`
    """
    from lorakit.analysis.resize import resize
    from lorakit.cli.output import show

    made = resize(adapter, rank=rank, energy=energy, params=params, out=out)
    show(str(made), made.as_dict(), as_json=as_json)
