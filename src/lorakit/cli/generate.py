"""`lorakit generate`."""

from __future__ import annotations

import sys

import typer


def command(
    prompts: list[str] = typer.Argument(None, help="Prompts; - reads one a line from stdin."),
    adapter: list[str] = typer.Option(None, "--adapter", "-a", help="An adapter's folder; repeat."),
    model: str = typer.Option(None, "--model", "-m", help="The base; else the adapter's own."),
    with_base: bool = typer.Option(False, "--with-base", help="Also show the bare base's answer."),
    raw: bool = typer.Option(False, "--raw", help="Prompts are whole, not for a template."),
    max_new_tokens: int = typer.Option(64, "--max-new-tokens", min=1, help="Longest answer."),
    temperature: float = typer.Option(0.0, "--temperature", min=0.0, help="0 is greedy."),
    seed: int = typer.Option(0, "--seed", min=0, help="For temperatures above 0."),
    precision: str = typer.Option("fp32", "--precision", help="fp32, bf16 or fp16."),
    quantise: str = typer.Option(
        None, "--quantise", help="none, nf4, int8 or torchao-int8; else as the adapter was trained."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Write on from prompts, with the base or any adapters side by side.

    Example: `lorakit generate --adapter runs/e2e/adapter --with-base "name[Aromi], food[French]"`
    """
    from lorakit.cli.ask import open_voices

    given = read_prompts(prompts)
    session = open_voices(
        adapter, model, with_base=with_base, quantise=quantise, precision=precision
    )

    from lorakit.cli.output import show
    from lorakit.eval.generate import ask

    found = ask(
        session, given, raw=raw, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed
    )
    blocks = []
    for entry in found:
        answers = entry["answers"]
        width = max(len(voice) for voice in answers)
        lines = [f"{voice:<{width}}  {text}" for voice, text in answers.items()]
        blocks.append("\n".join(["> " + entry["prompt"].replace("\n", "\n> "), *lines]))
    show("\n\n".join(blocks), found, as_json=as_json)


def read_prompts(said: list[str] | None) -> list[str]:
    """The prompts on the command line, or those on stdin."""
    from lorakit.core.errors import DataError

    if said and said != ["-"]:
        return said
    lines = [] if sys.stdin is None or sys.stdin.isatty() else sys.stdin.read().splitlines()
    given = [line for line in lines if line.strip()]
    if not given:
        raise DataError("There is no text. Write one behind the options, or pipe one a line to -.")
    return given
