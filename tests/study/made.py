"""Records that were never measured, whose pages have known answers, and settings for tiny runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lorakit.study import STUDIES
from lorakit.study.kinds import Record, Setting
from lorakit.study.options import chosen_options
from lorakit.train.recipe import Recipe


def record(settings: dict[str, Any], score: float, metric="eval_accuracy", **figures) -> Record:
    """A record of a score; more of it is better, but of a loss."""
    more = metric != "eval_loss"
    common = {"parameters": 1000, "seconds": 2.0}
    told = {"score": score, "metric": metric, "more_is_better": more, **common, **figures}
    return Record(settings, told, 1.0)


def setting_of(name: str, out: Path = Path(), recipe: Recipe | None = None, **options) -> Setting:
    """The quick options of a study with some set over them."""
    chosen = chosen_options(STUDIES[name], options, quick=True)
    return Setting(recipe.model if recipe else "base", out, chosen, recipe=recipe, quiet=True)


def rows_of(table) -> dict[Any, list[Any]]:
    """The rows of a table by their first value."""
    return {row[0]: list(row[1:]) for row in table.rows}


def write_glue(folder: Path, *, sst2: str = "good film", cola: str = "good film") -> Path:
    """A folder with rows of two tasks in their own formats, all of one text each."""
    for split in ("train", "dev"):
        for name, text in (("SST-2", sst2), ("CoLA", cola)):
            (folder / name).mkdir(parents=True, exist_ok=True)
            form = f"{text}\t{{}}\n" if name == "SST-2" else f"x\t{{}}\t\t{text}\n"
            head = "sentence\tlabel\n" if name == "SST-2" else ""
            rows = "".join(form.format(n % 2) for n in range(8))
            (folder / name / f"{split}.tsv").write_text(head + rows)
    return folder
