"""The demo's course: data, training, before and after, merge and unmerge, report."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

from lorakit.analysis.inspect import inspect
from lorakit.core.errors import SaveError
from lorakit.core.registry import root_of
from lorakit.core.site import base_parameters
from lorakit.demo import base_folder
from lorakit.demo.recipe import demo_recipe
from lorakit.demo.report import Example, Report, write_report
from lorakit.demo.rows import Row, rows, slot_accuracy
from lorakit.eval.generate import generate
from lorakit.eval.proof import merge_proof
from lorakit.eval.session import BASE, Session, open_session
from lorakit.train.recipe import Recipe
from lorakit.train.run import run

HELD_OUT_ROWS = 100
REPORT = "report.html"
RECIPE = "recipe.yaml"
MARK = ".lorakit-demo"  # a folder that a demo made
OWN = ("train.jsonl", "held_out.jsonl", RECIPE, REPORT, "run")


def show(out: Path, program: str) -> Report:
    """Run the demo into a folder, which must be new, empty, or an earlier demo's."""
    began = time.perf_counter()
    _make_room(out)
    _say("1/4  writing the rows and the recipe")
    held = rows(HELD_OUT_ROWS, seed=1, held_out=True)
    recipe = _prepare(out)

    _say(f"2/4  training: {recipe.train.steps} steps")
    result = run(recipe, quiet=False)

    _say("3/4  the same held-out rows for the base and for the adapter")
    session = open_session([str(result.adapter)], model=recipe.model, with_base=True, device="cpu")
    label = next(voice for voice in session.voices if voice != BASE)
    before, after = _answers(session, held, []), _answers(session, held, [label])

    _say("4/4  merging, and back")
    proof = merge_proof(session, label, [row["prompt"] + row["completion"] for row in held[:16]])
    about = inspect(result.adapter)
    assert not isinstance(about, list)
    base_file = base_folder() / "model.safetensors"
    report = Report(
        folder=out,
        program=program,
        before=slot_accuracy(held, before),
        after=slot_accuracy(held, after),
        examples=[
            Example(row["prompt"].strip(), a, b, row["completion"])
            for row, a, b in zip(held, before, after)
        ][:8],
        parameters=about.parameters,
        base_parameters=sum(p.numel() for p in base_parameters(root_of(session.model)).values()),
        adapter_bytes=(result.adapter / "adapter_model.safetensors").stat().st_size,
        base_bytes=base_file.stat().st_size,
        training_seconds=result.metrics["seconds"],
        seconds=time.perf_counter() - began,
        merge_error=proof.error,
        largest_logit=proof.largest,
        restored=proof.restored,
    )
    write_report(report, out / REPORT, loss=result.folder / "loss.png")
    return report


def _make_room(out: Path) -> None:
    """A demo replaces what an earlier one wrote, and nothing else."""
    try:
        if out.exists() and not (out / MARK).is_file() and any(out.iterdir()):
            raise SaveError(f"{out} is there and holds no earlier demo. Pass --out NEW-FOLDER.")
        out.mkdir(parents=True, exist_ok=True)
        (out / MARK).touch()
        for name in OWN:
            place = out / name
            if place.is_dir() and not place.is_symlink():
                shutil.rmtree(place)
            else:
                place.unlink(missing_ok=True)
    except OSError as error:
        raise SaveError(
            f"{out} cannot be written: {error.strerror}. Pass --out NEW-FOLDER."
        ) from error


def _prepare(out: Path) -> Recipe:
    recipe = demo_recipe(out, str(out / "run"))
    (out / RECIPE).write_text(recipe.dump(), encoding="utf-8")
    return recipe


def _answers(session: Session, held: list[Row], adapters: list[str]) -> list[str]:
    prompts = [row["prompt"] for row in held]
    found = generate(
        session.model, session.tokenizer, prompts, adapters=adapters, max_new_tokens=64,
        batch_size=50,
    )  # fmt: skip
    return [text.strip() for text in found]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
