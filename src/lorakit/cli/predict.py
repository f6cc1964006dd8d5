"""`lorakit predict`."""

from __future__ import annotations

import typer


def command(
    texts: list[str] = typer.Argument(None, help="Texts; - reads one a line from stdin."),
    adapter: list[str] = typer.Option(None, "--adapter", "-a", help="An adapter's folder; repeat."),
    model: str = typer.Option(None, "--model", "-m", help="The base; else the adapter's own."),
    pair: str = typer.Option(None, "--pair", help="A second text, for tasks on pairs."),
    with_base: bool = typer.Option(False, "--with-base", help="Also show the bare base's answer."),
    precision: str = typer.Option("fp32", "--precision", help="fp32, bf16 or fp16."),
    quantise: str = typer.Option(
        None, "--quantise", help="none, nf4, int8 or torchao-int8; else as the adapter was trained."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Say the label or the score of texts, with the base or any adapters side by side.

    Example: `lorakit predict --adapter runs/sst2/adapter "a warm and funny film"`
    """
    from lorakit.cli.ask import open_voices
    from lorakit.cli.generate import read_prompts

    given = read_prompts(texts)
    session = open_voices(
        adapter, model, with_base=with_base, quantise=quantise, precision=precision, kind="classes"
    )

    from lorakit.cli.output import show
    from lorakit.eval.predict import predict

    found = predict(session, [(text, pair) for text in given])
    lines = []
    for entry in found:
        shown = ", ".join(f"{voice}: {_said(a)}" for voice, a in entry["answers"].items())
        lines.append(f"{shown}  <  {entry['text']}")
    show("\n".join(lines), found, as_json=as_json)


def _said(answer: dict) -> str:
    if "score" in answer:
        return f"{answer['score']:.4f}"
    return f"{answer['label']} ({answer['probability']:.1%})"
