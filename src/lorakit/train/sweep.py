"""`sweep:` in a recipe: a run for every combination of values, over one base in memory.

Each run has a folder of its own with all that a lone run leaves, and ends in the adapter that it
would end in alone: to rounding where runs share their passes, else to the bit. Which of the two is
decided by what is right and what is faster, and the log says why.
"""

from __future__ import annotations

import json
import logging
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from lorakit.core.activate import use
from lorakit.core.errors import LorakitError, PlanError, SaveError, Stopped, UnsupportedError
from lorakit.core.folder import write_whole
from lorakit.core.inject import remove
from lorakit.core.state import trained_parameters
from lorakit.tasks.base import collate
from lorakit.train import together
from lorakit.train.expand import expand
from lorakit.train.folder import EVENTS
from lorakit.train.folder import SWEEP as FILE
from lorakit.train.identity import read_identity
from lorakit.train.lockstep import Ask, in_turns
from lorakit.train.plot import plot_losses
from lorakit.train.recipe import Recipe
from lorakit.train.record import read_events
from lorakit.train.run import NAME, Prepared, Result, conduct, logged, prepare
from lorakit.train.source import Shared
from lorakit.train.together import Part

# Fields by which runs may differ and yet share a base and its passes, besides all of `lora`.
_OWN_DATA = ("train_rows", "eval_rows", "eval_share", "max_length")
_BASE = ("precision", "quantise", "device", "checkpointing")
IMPOSSIBLE = (PlanError, UnsupportedError)  # a run's own places and sizes; other faults are of all
log = logging.getLogger("lorakit")


@dataclass(frozen=True)
class Outcome:
    """One run of a sweep: its settings, and its result, or the error that ended it."""

    settings: dict[str, Any]
    folder: Path
    result: Result | None
    error: str | None = None

    def told(self) -> dict[str, Any]:
        """All of it for a file: the folder by its name."""
        return {
            "settings": self.settings, "folder": self.folder.name, "error": self.error,
            "metrics": self.result.metrics if self.result else None,
        }  # fmt: skip


def sweep(
    recipe: Recipe, *, resume: bool = False, force: bool = False, quiet: bool = False
) -> list[Outcome]:
    """Train every run of the recipe's sweep; those that can, side by side.

    A run that fails, such as one whose loss is no number any more, ends alone; the others go on.
    Leaves `sweep.json` and `loss.png` of all runs beside their folders.
    """
    folder = Path(recipe.output).expanduser()
    if read_identity(folder) is not None:
        raise SaveError(f"{folder} holds a run, and no sweep. Choose another output.")
    runs = expand(recipe)
    folder.mkdir(parents=True, exist_ok=True)
    with logged(folder, quiet=quiet):
        ended = train_runs([own for _, own in runs], resume=resume, force=force, quiet=quiet)
    outcomes = [_outcome(*run, own) for run, own in zip(runs, ended)]
    _write(folder, outcomes)
    return outcomes


def train_runs(
    recipes: Sequence[Recipe], *, resume: bool = False, force: bool = False, quiet: bool = False
) -> list[Result | Exception]:
    """Train runs that may differ in everything, as many as can side by side over one base.

    In their order each one's result, or the `LorakitError` that ended it alone.
    """
    groups: dict[str, list[int]] = {}
    for number, recipe in enumerate(recipes):
        groups.setdefault(_key(recipe), []).append(number)
    ended: dict[int, Result | Exception] = {}
    for members in groups.values():
        chosen = [recipes[number] for number in members]
        ended |= zip(members, _group(chosen, resume=resume, force=force, quiet=quiet))
    return [ended[number] for number in range(len(recipes))]


def _group(
    recipes: list[Recipe], *, resume: bool, force: bool, quiet: bool
) -> list[Result | Exception]:
    """Runs over one base: side by side where that saves time and is right, else in turn."""
    source = Shared()
    given = {"resume": resume, "force": force, "source": source}
    why = next(filter(None, map(_not_together, recipes)), None)
    if why is None and len(recipes) > 1:
        ready: list[Prepared] = []
        try:
            for number, recipe in enumerate(recipes):
                ready.append(prepare(recipe, name=f"{NAME} {number}", **given))
            why = _not_beside(ready)
        except IMPOSSIBLE as error:
            why = f"one of them cannot be: {error}"
        if why is None:
            return _side_by_side(ready, quiet=quiet)
        for own in ready:
            remove(own.base.model, own.name)
    if why:
        log.info("%d runs one after the other over one base: %s", len(recipes), why)
    ended: list[Result | Exception] = []
    for recipe in recipes:
        try:
            ready_one = prepare(recipe, **given)
        except IMPOSSIBLE as error:
            log.warning("%s: %s", Path(recipe.output).name, error)
            ended.append(error)
            continue
        try:
            ended.append(conduct(ready_one, quiet=quiet))
        except Stopped:
            raise
        except LorakitError as error:
            log.warning("%s: %s", Path(recipe.output).name, error)
            ended.append(error)
        remove(ready_one.base.model, ready_one.name)
    return ended


def _not_beside(ready: list[Prepared]) -> str | None:
    """Why prepared runs cannot share their passes."""
    first = ready[0]
    if any(own.base is not first.base for own in ready):
        return "their labels are others, and so are their bases"
    parts = [_first_batch(own) for own in ready]
    return together.why_not(first.base.model, first.task.kind, first.padding, parts)


def _side_by_side(ready: list[Prepared], *, quiet: bool) -> list[Result | Exception]:
    """Train prepared runs in lockstep, each as it would go alone."""
    model, kind, padding = ready[0].base.model, ready[0].task.kind, ready[0].padding
    log.info("%d runs side by side", len(ready))
    stop = threading.Event()

    def job(own: Prepared, ask: Ask) -> Result:
        try:
            with use(model, own.name):
                return conduct(own, quiet=True, meet=ask, stop=stop, beside=len(ready))
        finally:  # a run that failed is not to be in the norm of the others' gradients
            for _, parameter in trained_parameters(model, own.name):
                parameter.grad = None

    with _stopping(stop), tqdm(unit="run-step", disable=quiet, dynamic_ncols=True) as bar:

        def meet(parts: Mapping[int, Part]) -> dict[int, Any]:
            answers = together.step(model, kind, padding, list(parts.values()))
            mean = sum(float(loss) for loss, _ in answers) / len(answers)
            bar.set_postfix({"runs": len(parts), "mean loss": f"{mean:.4f}"}, refresh=False)
            bar.update(len(parts))
            return dict(zip(parts, answers))

        ended = in_turns([partial(job, own) for own in ready], meet)
    for own, result in zip(ready, ended):
        if isinstance(result, Exception):
            log.warning("%s: %s", own.folder.name, result)
    for result in ended:  # a fault of ours, or the user's wish: not that of a single run
        if isinstance(result, Exception) and (
            isinstance(result, Stopped) or not isinstance(result, LorakitError)
        ):
            raise result
    return ended


@contextmanager
def _stopping(stop: threading.Event) -> Iterator[None]:
    """Turn Ctrl-C into a checkpoint and a clean stop of every run; a second one ends all."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.getsignal(signal.SIGINT)

    def note(number: int, frame: Any) -> None:
        del number, frame
        stop.set()
        signal.signal(signal.SIGINT, previous)

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def _first_batch(own: Prepared) -> Part:
    rows = own.data[0][: own.recipe.train.batch_size]
    batch = collate(rows, padding=own.padding)
    return Part(own.name, {k: v.to(own.base.model.device) for k, v in batch.items()})


def _not_together(recipe: Recipe) -> str | None:
    """Why a run cannot share its passes, as far as the recipe says it."""
    if recipe.lora.dropout:
        return "lora.dropout draws by the shape of the batch, which is another side by side"
    if recipe.method == "adalora":
        return "adalora chooses ranks, and roundings of a shared pass could choose others"
    if recipe.train.quantise == "int8":
        return "int8 keeps columns apart by what the whole batch holds"
    if recipe.train.checkpointing:
        return "train.checkpointing recomputes in threads that do not know the rows"
    if recipe.train.precision == "fp16" or torch.cuda.device_count() > 1:
        return "loss scaling and several devices are for one run at a time"
    return None


def _key(recipe: Recipe) -> str:
    """What a run must have in common with another one beside it, as text."""
    data = recipe.data.model_dump(exclude=set(_OWN_DATA))
    train = recipe.train.model_dump(include=set(_BASE))
    return json.dumps([recipe.model, recipe.task, data, train])


def _outcome(settings: dict[str, Any], recipe: Recipe, ended: Result | Exception) -> Outcome:
    folder = Path(recipe.output)
    if isinstance(ended, Exception):
        return Outcome(settings, folder, None, str(ended))
    return Outcome(settings, folder, ended)


def _write(folder: Path, outcomes: list[Outcome]) -> None:
    """The table and the picture of all runs."""
    folder.mkdir(parents=True, exist_ok=True)
    content = [own.told() for own in outcomes]
    write_whole(folder / FILE, (json.dumps(content, indent=2) + "\n").encode())
    curves = {own.folder.name: read_events(own.folder / EVENTS) for own in outcomes}
    plot_losses(curves, folder / "loss.png")


def table(outcomes: list[Outcome]) -> str:
    """The runs with their settings and last metrics, in columns; a failed one with its error."""
    names = list(dict.fromkeys(key for own in outcomes for key in _figures(own)))
    lines = [[*outcomes[0].settings, *names]]
    for own in outcomes:
        figures = _figures(own)
        told = [f"{figures[name]:.5g}" if name in figures else "" for name in names]
        lines.append([*map(str, own.settings.values()), *told])
    widths = [max(map(len, column)) for column in zip(*lines)]
    rows = ["  ".join(c.ljust(w) for c, w in zip(line, widths)).rstrip() for line in lines]
    failed = [f"{own.folder.name} failed: {own.error}" for own in outcomes if own.error]
    return "\n".join([*rows, *failed])


def _figures(own: Outcome) -> dict[str, float]:
    metrics = own.result.metrics if own.result else {}
    return {key: value for key, value in metrics.items() if isinstance(value, (int, float))}
