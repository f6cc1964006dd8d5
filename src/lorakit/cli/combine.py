"""`lorakit combine`."""

from __future__ import annotations

import typer


def command(
    adapters: list[str] = typer.Argument(help="Adapters' folders or files."),
    out: str = typer.Option(..., "--out", "-o", help="The folder to write."),
    weight: list[float] = typer.Option(None, "--weight", "-w", help="One for each; else 1."),
    how: str = typer.Option("exact", "--how", help="exact, svd, ties or dare."),
    rank: int = typer.Option(None, "--rank", help="The rank to cut to, for all but exact."),
    density: float = typer.Option(0.2, "--density", help="Share of entries that ties, dare keep."),
    seed: int = typer.Option(0, "--seed", help="For the random choice of dare."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON, with the error per module."),
) -> None:
    """Make one adapter of several: their weighted sum, exactly, or the nearest of a rank.

    Example: `lorakit combine style french --weight 0.7 --weight 0.3 --out both`
    """
    from lorakit.analysis.combine import combine
    from lorakit.cli.output import show

    made = combine(
        adapters, weights=weight or None, how=how, rank=rank, density=density, seed=seed, out=out
    )
    show(str(made), made.as_dict(), as_json=as_json)
