"""`lorakit demo`."""

from __future__ import annotations

import typer


def command(
    out: str = typer.Option("lorakit-demo", "--out", "-o", help="The folder to write."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Train, compare and merge an adapter on the tiny base that comes along; needs no network.

    Ends with a report to open in a browser. Example: `lorakit demo`
    """
    from lorakit.cli.output import program, show
    from lorakit.demo import demo

    report = demo(out, program=program())
    show(str(report), report.as_dict(), as_json=as_json)
