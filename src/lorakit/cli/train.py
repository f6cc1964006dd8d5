"""`lorakit train`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from lorakit.train.recipe import Recipe

CONTEXT = {"allow_extra_args": True, "ignore_unknown_options": True}


def command(
    context: typer.Context,
    recipe: str = typer.Argument(help="The recipe, a YAML file."),
    resume: bool = typer.Option(False, "--resume", help="Go on from the newest good checkpoint."),
    force: bool = typer.Option(False, "--force", help="Resume although recipe or data changed."),
    quiet: bool = typer.Option(False, "--quiet", help="No bar and no log on stderr."),
    as_json: bool = typer.Option(False, "--json", help="Print the result as JSON."),
) -> None:
    """Train an adapter as a recipe says.

    Any field of the recipe can be set by its dotted name and wins over the file:
    `lorakit train recipe.yaml --lora.rank 4 --train.lr 5e-3`.
    Killed at any moment, `lorakit train recipe.yaml --resume` ends in the same adapter.
    `--sweep.train.seed '[0, 1, 2]'` trains a run for each value, side by side over one base.
    """
    from lorakit.train.recipe import parse_overrides, read_recipe

    chosen = read_recipe(recipe, parse_overrides(context.args))

    from lorakit.cli.output import program, show

    if chosen.sweep:
        _sweep(chosen, resume=resume, force=force, quiet=quiet, as_json=as_json)
        return
    from lorakit.train.run import run

    result = run(chosen, resume=resume, force=force, quiet=quiet)
    figures = ", ".join(f"{key} {value:.4g}" for key, value in result.metrics.items())
    verb = "predict" if chosen.task in ("classification", "regression") else "generate"
    text = (
        f"{figures}\nadapter: {result.adapter}\n"
        f"try it:  {program()} {verb} --adapter {result.adapter} --with-base 'your text'\n"
        f"look:    {program()} inspect {result.adapter}, or open {result.folder / 'loss.png'}"
    )
    data = {"folder": result.folder, "adapter": result.adapter, "metrics": result.metrics}
    show(text, data, as_json=as_json)


def _sweep(chosen: Recipe, *, as_json: bool, **options: bool) -> None:
    from lorakit.cli.output import show
    from lorakit.core.errors import TrainingError
    from lorakit.train.sweep import sweep, table

    outcomes = sweep(chosen, **options)
    text = f"{table(outcomes)}\nruns: {chosen.output}, with sweep.json and loss.png of all"
    data = [own.told() | {"folder": own.folder} for own in outcomes]
    show(text, data, as_json=as_json)
    failed = [own for own in outcomes if own.error]
    if failed:
        raise TrainingError(f"{len(failed)} of {len(outcomes)} runs failed; the others are whole.")
