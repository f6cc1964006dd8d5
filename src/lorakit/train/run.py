"""A training run, from the recipe to the adapter's folder; it reads from top to bottom."""

from __future__ import annotations

import json
import logging
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import set_seed

from lorakit.core.errors import LorakitError, RecipeError, Stopped, first_line
from lorakit.core.folder import write_whole
from lorakit.core.inject import InjectReport
from lorakit.core.plan import Plan
from lorakit.formats.save import save
from lorakit.methods.inject import inject
from lorakit.models.allocate import Allocation
from lorakit.models.checkpointing import checkpoint_blocks
from lorakit.models.ending import learnable_end
from lorakit.models.load import Base, load_tokenizer, pick_device
from lorakit.tasks.base import Features
from lorakit.train import checkpoint
from lorakit.train.folder import ADAPTER, CHECKPOINTS, EVENTS, METRICS, check_free
from lorakit.train.identity import (
    check_same,
    check_same_base,
    identity,
    read_identity,
    write_identity,
)
from lorakit.train.lock import owned
from lorakit.train.plot import plot_loss
from lorakit.train.ranks import ranks_of, tell_pruned, write_plan
from lorakit.train.recipe import ENDED, Recipe
from lorakit.train.record import Record, log_to, read_events, seconds_of
from lorakit.train.setup import Flow, Meet, RunTrainer, make_trainer
from lorakit.train.source import Source
from lorakit.train.start import centre_score, chosen_method

NAME = "trained"
log = logging.getLogger("lorakit")


@dataclass(frozen=True)
class Result:
    """What a run came to: its folder, its adapter's folder, and its last metrics."""

    folder: Path
    adapter: Path
    metrics: dict[str, Any]


@dataclass
class Prepared:
    """A run before its first step: its rows, and its base with the adapter on it."""

    recipe: Recipe
    folder: Path
    begun: dict[str, Any] | None  # the identity of the run that goes on, where it is to be the same
    name: str
    task: Any
    data: tuple[list[Features], list[Features]]
    hashes: dict[str, Any]
    base: Base
    padding: int
    end: str | None
    about_end: str
    extras: list[str]
    plan: Plan
    report: InjectReport


def run(
    recipe: Recipe, *, resume: bool = False, force: bool = False, quiet: bool = False
) -> Result:
    """Train an adapter as the recipe says, and leave everything about it in the run's folder.

    `resume` goes on from the newest whole checkpoint, to the same bits as a run that was never
    stopped; `force` does so even where recipe, data or base differ from the run's beginning.
    """
    return conduct(prepare(recipe, resume=resume, force=force), quiet=quiet)


def prepare(
    recipe: Recipe, *, resume: bool = False, force: bool = False, name: str = NAME,
    source: Source | None = None,
) -> Prepared:  # fmt: skip
    """Check a recipe and its data, and put a fresh adapter, called `name`, on the base.

    The `source` gives rows and base; what loading draws from the random state is part of the run.
    """
    if recipe.sweep:
        raise RecipeError("This recipe has a sweep of runs: pass it to lorakit.train.sweep.sweep.")
    folder = Path(recipe.output).expanduser()
    begun = _begun(folder, resume=resume)
    begun = None if force else begun

    # Rows first: most mistakes are there, and no weight is needed to find them.
    source = source or Source()
    rows = source.rows(recipe)
    task, hashes = rows.task, rows.hashes
    if begun is not None:
        check_same(begun, recipe, hashes)
    device = pick_device(recipe.train.device)
    tokenizer = load_tokenizer(recipe.model, recipe.data.end)
    data = source.encoded(recipe, rows, tokenizer)

    set_seed(recipe.train.seed)
    base = source.base(
        recipe.model, task.kind, labels=task.labels(), precision=recipe.train.precision,
        quantise=recipe.train.quantise, device=device, padding=tokenizer.pad_token_id,
    )  # fmt: skip
    end, about_end = recipe.data.end, ""
    if end is None and task.name in ENDED:
        end, about_end = learnable_end(base.model, tokenizer)
        if end != tokenizer.eos_token:
            tokenizer = load_tokenizer(recipe.model, end)
            data = source.encoded(recipe, rows, tokenizer)
    extras = list(dict.fromkeys([*recipe.lora.extras, *base.fresh]))
    if begun is not None:
        check_same_base(begun, base.model)
    padding = tokenizer.pad_token_id
    centre_score(task, base.model, base.fresh, data[0])
    method = chosen_method(recipe, task, base.model, data[0], padding=padding, extras=extras)
    chosen = ranks_of(recipe, base.model, data[0], padding, begun=folder if resume else None)
    report = inject(base.model, chosen, name=name, method=method)
    return Prepared(
        recipe, folder, begun, name, task, data, hashes, base, padding, end, about_end, extras,
        chosen, report,
    )  # fmt: skip


def conduct(
    ready: Prepared, *, quiet: bool = False, meet: Meet | None = None,
    stop: threading.Event | None = None, beside: int = 1,
) -> Result:  # fmt: skip
    """Train a prepared run to its end. With `meet` it is one of several: see `train/sweep.py`.

    Of the time that `beside` runs take together the metrics have each one's share. It saves and
    ends with `Stopped` when `stop` is set, or by Ctrl-C in the main thread.
    """
    recipe, folder, model = ready.recipe, ready.folder, ready.base.model
    folder.mkdir(parents=True, exist_ok=True)
    with owned(folder), logged(folder, quiet=quiet):
        if ready.begun is None:
            write_identity(folder, identity(recipe, ready.hashes, model, ready.extras))
        if ready.begun is None or not (folder / "recipe.yaml").exists():
            write_whole(folder / "recipe.yaml", recipe.dump().encode())
        if isinstance(ready.plan, Allocation):
            write_plan(folder, ready.plan)
            log.info("%s", ready.plan.summary())
        log.info("%s", ready.report)
        if ready.about_end:
            log.warning("%s", ready.about_end)
        _prepare(model, checkpointing=recipe.train.checkpointing)
        trainer = make_trainer(
            recipe, ready.task, model, ready.data, ready.padding, name=ready.name, meet=meet,
            stop=stop, quiet=quiet,
        )  # fmt: skip
        seconds = _train(trainer, folder / CHECKPOINTS) / beside
        about = {"data": ready.hashes, "labels": ready.task.labels(), "end": ready.end}
        return _finish(trainer, folder, recipe, about, seconds)


def _begun(folder: Path, *, resume: bool) -> dict[str, Any] | None:
    """The identity of the run to resume; None for a new one, for which the folder must be free."""
    if resume:
        return read_identity(folder) if folder.is_dir() else None
    check_free(folder)
    return None


@contextmanager
def logged(folder: Path, *, quiet: bool) -> Iterator[None]:
    """Write what happens in this thread to the folder's `log.txt`, errors at the end included."""
    handler = log_to(folder, quiet=quiet)
    try:
        yield
    except Exception as error:
        # To the file alone: whoever called shows the error to the user. A stop is no error.
        level = "INFO" if isinstance(error, Stopped) else "ERROR"
        told = str(error)
        if not isinstance(error, LorakitError):  # of torch's pages on too little memory, a line
            kind, first = type(error).__name__, first_line(error)
            told = first if first == kind else f"{kind}: {first}"
        handler.handle(logging.makeLogRecord({"levelname": level, "msg": told}))
        raise
    finally:
        log.removeHandler(handler)
        handler.close()


def _prepare(model: Any, *, checkpointing: bool) -> None:
    model.config.use_cache = False  # kept keys and values are of no use in training
    if checkpointing:
        checkpoint_blocks(model)


def _train(trainer: RunTrainer, checkpoints: Path) -> float:
    """Train from the newest whole checkpoint, or from the start; the seconds of all its starts."""
    for partial in checkpoints.glob(".checkpoint-*") if checkpoints.is_dir() else ():
        shutil.rmtree(partial)  # the folder is ours, so whoever wrote this was killed
    newest, passed = checkpoint.newest(checkpoints)
    for line in passed:
        log.warning("%s", line)
    record = next(c for c in trainer.callback_handler.callbacks if isinstance(c, Record))
    if newest is not None:
        log.info("going on after step %d", checkpoint.step_of(newest))
        trainer.state = trainer.restore(newest)
        if trainer.is_over():
            return seconds_of(read_events(record.path))
    flow = next(c for c in trainer.callback_handler.callbacks if isinstance(c, Flow))
    try:
        trainer.train(resume_from_checkpoint=None if newest is None else str(newest))
    finally:
        record.close()
        flow.restore()
    if flow.stop.is_set():
        raise Stopped(
            f"Stopped after step {trainer.state.global_step}, which is saved. Pass --resume to go "
            "on from there."
        )
    return record.seconds


def _finish(
    trainer: RunTrainer, folder: Path, recipe: Recipe, about: dict[str, Any], seconds: float
) -> Result:
    """Write the adapter, the metrics and the picture."""
    best = trainer.restore_best() if recipe.train.keep_best else None
    events = read_events(folder / EVENTS)
    step = best or trainer.state.global_step
    metrics = _metrics(events, step)
    metrics["seconds"] = round(seconds, 2)
    tell_pruned(folder, trainer.adapted, trainer.adapter)
    log.info("the adapter is that of step %d of %d", step, trainer.state.global_step)
    adapter = save(
        trainer.adapted,
        folder / ADAPTER,
        name=trainer.adapter,
        run={"recipe": recipe.model_dump(), **about, "metrics": metrics},
    )
    plot_loss(events, folder / "loss.png", title=f"{recipe.task} on {Path(recipe.model).name}")
    write_whole(folder / METRICS, (json.dumps(metrics, indent=2) + "\n").encode())
    return Result(folder, adapter, metrics)


def _metrics(events: list[dict[str, Any]], step: int) -> dict[str, Any]:
    """What was measured at the step the adapter is of, and the last training losses."""
    found: dict[str, Any] = {"step": step}
    losses = [event["loss"] for event in events if "loss" in event and event["step"] <= step]
    if losses:
        found["loss"] = sum(losses[-10:]) / len(losses[-10:])
    for event in events:
        if event["step"] == step and "eval_loss" in event:
            found.update({k: v for k, v in event.items() if k.startswith("eval_")})
    return found
