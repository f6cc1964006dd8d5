"""`lorakit plan`."""

from __future__ import annotations

from typing import Any

import typer

CONTEXT = {"allow_extra_args": True, "ignore_unknown_options": True}
FIELDS = {
    "rank": "lora.rank", "targets": "lora.targets", "method": "method",
    "dropout": "lora.dropout", "batch": "train.batch_size", "seq": "data.max_length",
    "dtype": "train.precision", "quant": "train.quantise", "checkpointing": "train.checkpointing",
    "task": "task",
}  # fmt: skip


def command(
    context: typer.Context,
    what: str = typer.Argument(
        metavar="MODEL_OR_RECIPE",
        help="A recipe (YAML), or a model: its folder, its hub id, or a config as a JSON file.",
    ),
    rank: int = typer.Option(None, "--rank", "-r", help="Rank of every target."),
    targets: str = typer.Option(None, "--targets", help="As in q,v or all-linear."),
    method: str = typer.Option(None, "--method", help="lora, or another of a recipe's."),
    dropout: float = typer.Option(None, "--dropout", help="Dropout on the input of A."),
    batch: int = typer.Option(None, "--batch", help="Rows of a batch."),
    seq: int = typer.Option(None, "--seq", help="Tokens of the longest row."),
    dtype: str = typer.Option(None, "--dtype", help="Of the base: fp32, bf16 or fp16."),
    quant: str = typer.Option(None, "--quant", help="none, nf4, int8 or torchao-int8."),
    checkpointing: bool = typer.Option(
        None, "--checkpointing/--no-checkpointing", help="Recompute activations."
    ),
    task: str = typer.Option(None, "--task", help="Of a model; else by its kind."),
    rows: int = typer.Option(None, "--rows", min=1, help="Training rows, for advice on the rank."),
    completion_tokens: int = typer.Option(
        None, "--completion-tokens", min=1, help="The same, counted in tokens to be learned."
    ),
    memory: str = typer.Option(
        None, "--memory", help="To find the largest batch for, as in 24GB; else what is free here."
    ),
    calibrate: bool = typer.Option(
        False, "--calibrate", help="Measure this machine for a second, to tell a step's time."
    ),
    layers: bool = typer.Option(False, "--layers", help="List every target."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Say what training would adapt and take, from shapes alone: no weight is loaded.

    Parameters, bytes on disk, memory by part beside full fine-tuning, the largest batch that fits,
    work, time, and advice. Any field of the recipe is a flag by its dotted name.

    Example: `lorakit plan path/to/base --rank 16 --targets q,v --batch 4 --seq 1024 --dtype bf16`
    or `lorakit plan recipe.yaml --lora.rank 16`
    """
    given = {
        "rank": rank, "targets": targets.split(",") if targets else None, "method": method,
        "dropout": dropout, "batch": batch, "seq": seq, "dtype": dtype, "quant": quant,
        "checkpointing": checkpointing, "task": task,
    }  # fmt: skip
    fields = {FIELDS[name]: value for name, value in given.items() if value is not None}
    question = _question(what, fields, context.args)

    from lorakit.cli.output import show
    from lorakit.train.outlook import Asked, outlook

    asked = Asked(memory, calibrate, rows, completion_tokens)
    found = outlook(question, asked)
    text = f"{found.forecast.plan}\n\n{found}" if layers else str(found)
    show(text, found.as_dict(), as_json=as_json)


def _question(what: str, fields: dict[str, Any], others: list[str]) -> Any:
    """What is asked about: a recipe, or a model with the recipe that the flags make."""
    from pathlib import Path

    from lorakit.train.recipe import parse_overrides, read_recipe

    place = Path(what).expanduser()
    overrides = {**fields, **parse_overrides(others)}
    if place.suffix in (".yaml", ".yml") or (place.is_file() and place.suffix != ".json"):
        recipe = read_recipe(what, overrides)
        from lorakit.train.forecast import Question

        return Question(recipe)
    from lorakit.train.outlook import about_model

    return about_model(what, overrides)
