"""`lorakit diff`."""

from __future__ import annotations

import typer


def command(
    first: str = typer.Argument(help="An adapter's folder or file."),
    second: str = typer.Argument(help="Another one."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Compare two adapters: modules, sizes of their changes, and how far they point the same way.

    Example: `lorakit diff runs/a/adapter runs/b/adapter`
    """
    from lorakit.analysis.diff import diff
    from lorakit.cli.output import show

    found = diff(first, second)
    show(str(found), found.as_dict(), as_json=as_json)
