"""`lorakit study`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from lorakit.study.kinds import Setting, Study
    from lorakit.train.recipe import Recipe

CONTEXT = {"allow_extra_args": True, "ignore_unknown_options": True}
ROWS = "rows"  # in the study's folder: the demo's, where no recipe names any
# What is trained where no recipe says it: little, so that every seed of a study takes minutes.
DEMO = {"train.steps": 30, "train.batch_size": 8, "data.train_rows": 640, "data.eval_rows": 48}
QUICK = {**DEMO, "train.steps": 20, "data.eval_rows": 32}


def command(
    words: list[str] = typer.Argument(
        None, metavar="[NAME] [RECIPE]", help="The study, and a recipe; without any, a list."
    ),
    model: str = typer.Option(None, "--model", "-m", help="The base; else the recipe's."),
    adapter: list[str] = typer.Option(None, "--adapter", "-a", help="An adapter to study; repeat."),
    out: str = typer.Option(None, "--out", "-o", help="The folder; else lorakit-study-NAME."),
    quick: bool = typer.Option(False, "--quick", help="Fewer and smaller measurements."),
    retry: bool = typer.Option(False, "--retry", help="Measure cells that failed again."),
    quiet: bool = typer.Option(False, "--quiet", help="No bar on stderr."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Answer a question of the LoRA paper by measuring, with intervals, tables and pictures.

    Ended at any moment, the same command goes on. Without recipe and model it runs on the tiny base
    and the rows that come along. Options of the study are set as `--study.NAME`, fields of the
    recipe by their dotted names:
    `lorakit study latency --model FOLDER --study.shapes '[[1, 128]]' --study.rounds 50`
    """
    from lorakit.cli.output import show

    if not words:
        _list(as_json=as_json)
        return
    name, recipe, fields, options = _parsed(words)

    from lorakit.core.errors import TrainingError
    from lorakit.study.grid import run_study
    from lorakit.train.recipe import read_recipe

    study = _study(name)
    place = Path(out or f"lorakit-study-{name}{'-quick' if quick else ''}").expanduser().resolve()
    chosen = _options(study, options, quick=quick)
    told = {"model": model} if model else {}
    read = None if recipe is None else read_recipe(recipe, {**fields, **told})
    setting = _setting(
        study, place, chosen, read, fields, model=model, adapters=tuple(adapter or ()),
        quick=quick, quiet=quiet,
    )  # fmt: skip
    done = run_study(study, setting, retry=retry)
    report = done.folder / "report.html"
    texts = [*done.shown.findings, *(table.text() for table in done.shown.tables)]
    data = {
        "folder": done.folder, "report": report, "findings": done.shown.findings,
        "tables": [table.as_dict() for table in done.shown.tables],
        "failed": [{"settings": own.settings, "error": own.error} for own in done.failed],
    }  # fmt: skip
    show("\n\n".join([*texts, f"report: {report}"]), data, as_json=as_json)
    if done.failed:
        raise TrainingError(
            f"{len(done.failed)} of {len(done.records)} cells failed, the first: "
            f"{done.failed[0].error} The others are whole; --retry measures failed ones again."
        )


def _list(*, as_json: bool) -> None:
    from lorakit.cli.output import program, show
    from lorakit.study import STUDIES

    width = max(map(len, STUDIES))
    lines = [f"{name:<{width}}  {study.why}" for name, study in STUDIES.items()]
    text = "\n".join([*lines, f"run one:  {program()} study latency --quick"])
    data = [
        {"name": n, "title": s.title, "why": s.why, "options": s.options(quick=False)}
        for n, s in STUDIES.items()
    ]
    show(text, data, as_json=as_json)


def _parsed(words: list[str]) -> tuple[str, str | None, dict[str, Any], dict[str, Any]]:
    """The study's name, the recipe's file, and dotted fields of the recipe and of the study."""
    from lorakit.core.errors import RecipeError
    from lorakit.train.recipe import parse_overrides

    name, rest = words[0], words[1:]
    if name.startswith("-"):
        raise RecipeError(f"{name} stands before the study. Write: lorakit study NAME {name} ...")
    recipe = rest.pop(0) if rest and not rest[0].startswith("-") else None
    given = parse_overrides(rest)
    own = {n.partition(".")[2]: v for n, v in given.items() if n.startswith("study.")}
    return name, recipe, {n: v for n, v in given.items() if not n.startswith("study.")}, own


def _study(name: str) -> Study:
    from lorakit.core.errors import RecipeError, did_you_mean
    from lorakit.study import STUDIES

    if name not in STUDIES:
        hint = did_you_mean(name, STUDIES)
        raise RecipeError(f"{name!r} is no study: {', '.join(STUDIES)}.{hint}")
    return STUDIES[name]


def _options(study: Study, given: dict[str, Any], *, quick: bool) -> dict[str, Any]:
    from lorakit.study.options import chosen_options

    return chosen_options(study, given, quick=quick)


def _setting(
    study: Study, place: Path, options: dict[str, Any], recipe: Recipe | None,
    fields: dict[str, Any], *, model: str | None, adapters: tuple[str, ...], quick: bool,
    quiet: bool,
) -> Setting:  # fmt: skip
    """The base, and what is trained on it: the recipe's, or the demo's."""
    from lorakit.core.errors import ModelError, RecipeError
    from lorakit.demo import base_folder
    from lorakit.eval.session import about, adapter_folder
    from lorakit.study.kinds import Setting

    if adapters and not study.trains:
        raise RecipeError(f"{study.name} looks at no adapters. Leave --adapter out.")
    if recipe is None and fields and (adapters or not study.trains):
        raise RecipeError(f"--{next(iter(fields))} is for a recipe, and there is none here.")
    if not study.trains:
        base = model or (recipe.model if recipe else str(base_folder()))
        return Setting(base, place, options, quiet=quiet)
    if recipe is None and adapters:
        base = model or next(filter(None, (about(adapter_folder(a))[0] for a in adapters)), None)
        if base is None:
            raise ModelError("Which base? No adapter here names one. Pass --model FOLDER.")
        return Setting(base, place, options, adapters=adapters, quiet=quiet)
    recipe = recipe or _demo_recipe(place, fields, model, quick=quick)
    return Setting(recipe.model, place, options, recipe=recipe, adapters=adapters, quiet=quiet)


def _demo_recipe(place: Path, fields: dict[str, Any], model: str | None, *, quick: bool) -> Recipe:
    """Rows and recipe of the demo, with fields set over it."""
    from lorakit.demo.recipe import demo_recipe
    from lorakit.study.identity import check_free
    from lorakit.train.recipe import make_recipe, set_field

    check_free(place)
    raw = demo_recipe(place / ROWS, str(place / "run"), model=model).model_dump()
    for name, value in {**(QUICK if quick else DEMO), **fields}.items():
        set_field(raw, name, value)
    return make_recipe(raw)
