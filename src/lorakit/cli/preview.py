"""`lorakit preview`."""

from __future__ import annotations

import typer

CONTEXT = {"allow_extra_args": True, "ignore_unknown_options": True}


def command(
    context: typer.Context,
    recipe: str = typer.Argument(help="The recipe, a YAML file."),
    count: int = typer.Option(3, "--count", "-n", min=0, help="Rows that are shown."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Show rows as training sees them: prompts as they are rendered, and what carries loss.

    Every row is read and checked; any field of the recipe can be set by its dotted name.

    Example: `lorakit preview recipe.yaml --data.max_length 256`
    """
    from lorakit.train.recipe import parse_overrides, read_recipe

    chosen = read_recipe(recipe, parse_overrides(context.args))

    from lorakit.cli.output import show
    from lorakit.train.preview import preview

    found = preview(chosen, count=count)
    show(str(found), found.as_dict(), as_json=as_json)
