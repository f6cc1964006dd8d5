"""`lorakit eval`."""

from __future__ import annotations

import typer

from lorakit.core.errors import RecipeError


def command(
    adapter: list[str] = typer.Option(None, "--adapter", "-a", help="An adapter's folder; repeat."),
    model: str = typer.Option(None, "--model", "-m", help="The base; else the adapter's own."),
    with_base: bool = typer.Option(False, "--with-base", help="Also evaluate the bare base."),
    data: str = typer.Option(None, "--data", help="A file or folder; else as in the recipe."),
    benchmark: str = typer.Option(None, "--benchmark", help="Whose format, such as glue/sst2."),
    split: str = typer.Option(None, "--split", help="Of a folder: dev, test, ...; else dev."),
    task: str = typer.Option(None, "--task", help="Where no recipe or benchmark says it."),
    metrics: str = typer.Option(None, "--metrics", help="Of answers: bleu,rouge_l,...; or none."),
    beams: int = typer.Option(1, "--beams", min=1, help="1 is greedy."),
    length_penalty: float = typer.Option(1.0, "--length-penalty", help="For beams."),
    no_repeat_ngram: int = typer.Option(0, "--no-repeat-ngram", min=0, help="0 is off."),
    max_new_tokens: int = typer.Option(64, "--max-new-tokens", min=1, help="Longest answer."),
    batch_size: int = typer.Option(16, "--batch-size", min=1, help="Rows asked at a time."),
    rows: int = typer.Option(None, "--rows", min=1, help="Take only the first so many."),
    out: str = typer.Option(None, "--out", help="Folder for answers, report and pictures."),
    resume: bool = typer.Option(False, "--resume", help="Go on with what is in --out."),
    precision: str = typer.Option("fp32", "--precision", help="fp32, bf16 or fp16."),
    quantise: str = typer.Option(None, "--quantise", help="Else as the adapter was trained."),
    quiet: bool = typer.Option(False, "--quiet", help="No bar on stderr."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Measure adapters and the base on rows with known answers, side by side.

    Without --data on what the first adapter's recipe evaluates on. Each figure has a 95 % interval.
    Example: `lorakit eval --adapter runs/e2e --with-base --metrics bleu,rouge_l --out evals/e2e`
    """
    from lorakit.cli.ask import check_options

    check_options(adapter, model, precision=precision, quantise=quantise)
    if resume and out is None:
        raise RecipeError("--resume goes on with an evaluation in a folder: name it with --out.")
    chosen = None if metrics is None else tuple(n.strip() for n in metrics.split(",") if n.strip())

    from lorakit.cli.output import show
    from lorakit.eval.evaluate import Who, evaluate
    from lorakit.eval.generate import Decoding
    from lorakit.eval.report import details, table
    from lorakit.eval.subject import What

    decoding = Decoding(
        max_new_tokens, beams=beams, length_penalty=length_penalty, no_repeat_ngram=no_repeat_ngram
    )
    found = evaluate(
        Who(tuple(adapter or ()), model, with_base, precision, quantise),
        What(
            data, benchmark, split, task, () if chosen == ("none",) else chosen, rows, batch_size,
            decoding,
        ),
        out=out, resume=resume, quiet=quiet,
    )  # fmt: skip
    lines = [table(found)]
    lines += [f"\n{voice.label}\n{details(voice)}" for voice in found.voices if voice.confusion]
    lines += [f"note: {note}" for note in found.subject.notes]
    lines += [f"report: {out}/report.md"] if out else []
    show("\n".join(lines), found.told(), as_json=as_json)
