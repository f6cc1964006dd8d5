"""`lorakit plan`."""

from __future__ import annotations

import typer

CONTEXT = {"allow_extra_args": True, "ignore_unknown_options": True}


def command(
    context: typer.Context,
    recipe: str = typer.Argument(help="The recipe, a YAML file."),
    layers: bool = typer.Option(False, "--layers", help="List every target."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Say what a recipe would adapt, its parameters and bytes, without loading a weight.

    Example: `lorakit plan recipe.yaml --lora.rank 16 --lora.targets "[q, v]"`
    """
    from lorakit.train.recipe import parse_overrides, read_recipe

    chosen = read_recipe(recipe, parse_overrides(context.args))

    from lorakit.cli.output import show
    from lorakit.train.forecast import forecast

    plan, found = forecast(chosen)
    show(f"{plan}\n\n{found}" if layers else str(found), found.as_dict(), as_json=as_json)
