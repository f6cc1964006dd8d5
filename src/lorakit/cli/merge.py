"""`lorakit merge`."""

from __future__ import annotations

import typer


def command(
    adapter: list[str] = typer.Option(..., "--adapter", "-a", help="An adapter's folder; repeat."),
    out: str = typer.Option(..., "--out", "-o", help="The folder to write."),
    model: str = typer.Option(None, "--model", "-m", help="The base; else the adapter's own."),
    precision: str = typer.Option("fp32", "--precision", help="fp32, bf16 or fp16."),
    quantise: str = typer.Option(
        None, "--quantise", help="none, nf4, int8 or torchao-int8; else as the adapter was trained."
    ),
    rounding: str = typer.Option(
        "nearest", "--rounding", help="nearest; or stochastic, for changes too small for bf16."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Merge adapters into their base and write a plain model that any tool loads.

    It is loaded again and compared, bit for bit, before the folder appears.
    Example: `lorakit merge --adapter runs/e2e/adapter --out merged/e2e`
    """
    from lorakit.cli.ask import open_voices
    from lorakit.cli.output import show
    from lorakit.models.export import export_merged

    session = open_voices(adapter, model, with_base=False, quantise=quantise, precision=precision)
    report = export_merged(session.model, out, name=list(session.voices), rounding=rounding)
    data = {
        "folder": report.folder,
        "unchanged": report.merge.unchanged,
        "delta_error": report.merge.delta_error,
        "dequantised": report.merge.dequantised,
        "error": report.error,
    }
    show(str(report), data, as_json=as_json)
