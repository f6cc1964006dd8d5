"""`lorakit convert`."""

from __future__ import annotations

import typer


def command(
    source: str = typer.Argument(help="An adapter's folder or file, of any format."),
    out: str = typer.Argument(help="The folder to write."),
    to: str = typer.Option(
        "peft",
        "--to",
        help="peft, vllm, gguf, torchtune, litgpt, kohya, diffusers, loralib or cloneofsimo.",
    ),
    model: str = typer.Option(
        None,
        "--model",
        "-m",
        help="The base, where a file's names do not say all; always for gguf, torchtune, litgpt.",
    ),
    component: str = typer.Option(
        None, "--component", help="The part of an image pipeline, such as unet."
    ),
    alpha: float = typer.Option(
        None, "--alpha", help="Alpha, which files of loralib, torchtune and litgpt do not say."
    ),
    enabled: str = typer.Option(
        None,
        "--enabled",
        help="The adapted blocks of loralib or litgpt, as 1,0,1 for query and value.",
    ),
    drop: bool = typer.Option(False, "--drop", help="Leave out what the format cannot hold."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON, with the error per module."),
) -> None:
    """Convert an adapter, and prove it: what was written is read again and compared.

    Example: `lorakit convert style.safetensors style-folder --to diffusers`
    """
    from lorakit.cli.output import show
    from lorakit.core.errors import DataError
    from lorakit.formats.convert import convert

    blocks = None
    if enabled is not None:
        words = enabled.split(",")
        if set(words) - {"0", "1"}:
            raise DataError(f"--enabled is {enabled!r}; expected 0 and 1 with commas, as 1,0,1.")
        blocks = [word == "1" for word in words]
    base = None
    if model is not None:
        from lorakit.models.load import named_structure

        base = named_structure(model)
    proof = convert(
        source, out, to=to, model=base, component=component, alpha=alpha, enabled=blocks, drop=drop
    )
    show(str(proof), proof.as_dict(), as_json=as_json)
