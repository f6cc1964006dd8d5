"""`lorakit doctor`."""

from __future__ import annotations

import typer


def command(
    adapter: str = typer.Argument(help="An adapter's folder or file, of any format."),
    model: str = typer.Option(None, "--model", "-m", help="The base it is meant for."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Say whether an adapter is healthy, fits a base, and which tools would load it right.

    Example: `lorakit doctor style.safetensors`
    """
    from lorakit.analysis.doctor import doctor
    from lorakit.cli.output import show
    from lorakit.eval.session import adapter_folder

    base = None
    if model is not None:
        from lorakit.models.load import named_structure

        base = named_structure(model)
    found = doctor(adapter_folder(adapter), base)
    show(str(found), found.as_dict(), as_json=as_json)
