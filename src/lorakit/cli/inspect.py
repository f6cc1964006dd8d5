"""`lorakit inspect`."""

from __future__ import annotations

import typer


def command(
    folder: str = typer.Argument(help="An adapter's folder or file of any format, or a run's."),
    layers: bool = typer.Option(False, "--layers", help="List every layer and its change."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Say what an adapter is: layers, ranks, scale, size, base and run; checks the files as well.

    Example: `lorakit inspect runs/e2e --layers`
    """
    from lorakit.analysis.inspect import inspect
    from lorakit.cli.output import show
    from lorakit.eval.session import adapter_folder

    found = inspect(adapter_folder(folder))
    assert not isinstance(found, list)
    show(f"{found}\n\n{found.table()}" if layers else str(found), found.as_dict(), as_json=as_json)
