"""What a recipe would adapt and take, from the base's config and the data alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from lorakit.analysis.cost import FLOAT, Cost, cost
from lorakit.analysis.machine import Speed
from lorakit.core.errors import LorakitError, first_line
from lorakit.core.inject import shapes_only
from lorakit.core.plan import Plan
from lorakit.methods import method_named
from lorakit.methods.lora import LoRA
from lorakit.methods.method import Baseline, Method
from lorakit.methods.start import Factors, Places
from lorakit.methods.whole import find_extras
from lorakit.models.load import DTYPES, read_config, structure
from lorakit.models.rehearse import Batch, Rehearsal, Stage
from lorakit.models.roles import head_paths
from lorakit.tasks import make_task
from lorakit.tasks.base import Task
from lorakit.tasks.data import eval_place, read_data
from lorakit.train.expected import Expected, expected
from lorakit.train.ranks import ranks_forecast
from lorakit.train.recipe import Recipe

ERROR = 0.10  # of the peak: the runs of docs/planning.md are within it
TOKENS = 2**16  # of a batch up to which the search for the largest one rehearses every size
ANCHORED = ("pissa", "olora", "lora-ga")  # starts that are kept beside the factors


@dataclass(frozen=True)
class Forecast:
    """A recipe's plan and cost, and rehearsals of its steps: adapted, in full, and evaluating.

    `refused` says why there are no rehearsals, where there are none.
    """

    plan: Plan
    cost: Cost
    expected: Expected
    adapted: Rehearsal | None = None
    full: Rehearsal | None = None
    evaluation: Rehearsal | None = None
    refused: str = ""

    @property
    def peak(self) -> int | None:
        """The most bytes of a run, evaluations included."""
        found = [own.peak for own in (self.adapted, self.evaluation) if own is not None]
        return max(found, default=None)


class Question:
    """A recipe that is asked about; `seen` stands for what its data say, where there are none."""

    def __init__(self, recipe: Recipe, seen: Expected | None = None):
        self.recipe = recipe
        self.task: Task = make_task(recipe.task, recipe.data)
        if self.task.kind == "classes" and seen is None:
            read_data(recipe.data, self.task, recipe.train.seed)  # which decide the head
        self.labels = self.task.labels() if seen is None else ["0", "1"]
        self.config = read_config(recipe.model)
        self.expected = seen or expected(recipe, self.task, self.config)

    def structure(self) -> Any:
        """The base without weights."""
        name = self.recipe.model
        return structure(read_config(name), self.task.kind, self.labels, name=name)

    def cost(self) -> tuple[Plan, Cost, list[str]]:
        """What would be adapted, its cost, and the modules that are trained in full."""
        model = self.structure()
        chosen = ranks_forecast(self.recipe, model)
        extras = find_extras(model, tuple(self.recipe.lora.extras))
        if self.task.kind == "classes":
            # A base without this head, as most are, gets a new one, which is trained in full.
            heads = sorted(head_paths(model), key=len)
            extras += [p for p in heads if not any(f"{p}.".startswith(f"{e}.") for e in extras)]
            extras = [
                path for path in extras if any(True for _ in model.get_submodule(path).parameters())
            ]
        width = DTYPES[self.recipe.train.precision].itemsize
        method = self._method(extras)
        held = None if isinstance(method, LoRA) else sizes(model, chosen, method)
        return chosen, cost(model, chosen, extras=extras, weight_bytes=width, held=held), extras

    def stage(self, chosen: Mapping[str, int], extras: list[str], *, full: bool = False) -> Stage:
        """The base, ready for rehearsals of this recipe, or of training all of it."""
        train = self.recipe.train
        return Stage(
            self.structure(), chosen, None if full else self._method(extras), kind=self.task.kind,
            precision=train.precision, quantise="none" if full else train.quantise,
            checkpointing=train.checkpointing,
        )  # fmt: skip

    def _method(self, extras: list[str]) -> Method:
        """The recipe's method, from a start that needs neither weights nor data."""
        options, kind = self.recipe.lora, method_named(self.recipe.method)
        if issubclass(kind, Baseline):
            return kind(extras=tuple(extras))
        assert issubclass(kind, LoRA)
        return kind(
            alpha=options.alpha, dropout=options.dropout, rslora=options.rslora,
            bias=options.bias, extras=tuple(extras), in_float32=options.in_float32,
            init=Anchored() if options.init in ANCHORED else "default",
        )  # fmt: skip


def sizes(model: Any, chosen: Mapping[str, int], method: Method) -> dict[str, int]:
    """The parameters that a method trains at each module of a base without weights, once each."""
    seen: set[int] = set()
    found: dict[str, int] = {}
    with shapes_only():
        for path, kinds in method.updates(model, chosen).items():
            own = {id(p): p for update in kinds.values() for p in update.parameters()}
            found[path] = sum(p.numel() for key, p in own.items() if key not in seen)
            seen |= own.keys()
    return found


class Anchored:
    """Factors of the right sizes with an anchor, for starts that need weights or data."""

    def start(self, root: Any, places: Places) -> dict[str, Factors]:
        """Factors for every target, without values."""
        del root

        def pair(columns: int, rows: int, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
            return torch.empty(rank, columns, device="meta"), torch.empty(rows, rank, device="meta")

        sizes = {target: (*place.form.size, place.rank) for target, place in places.items()}
        return {target: Factors(*pair(*own), pair(*own)) for target, own in sizes.items()}


def forecast(question: Question, *, full: bool = True) -> Forecast:
    """All that shapes tell about a recipe; its cost alone where a step cannot be rehearsed.

    Without `full` no step of full fine-tuning is rehearsed, which takes as long as the adapter's.
    """
    chosen, found, extras = question.cost()
    known = Forecast(chosen, found, question.expected)
    batch, recipe = question.expected.batch, question.recipe
    try:
        stage = question.stage(chosen, extras)
        adapted = stage.rehearse(batch)
        other = question.stage(chosen, extras, full=True).rehearse(batch) if full else None
        evaluation = None
        if recipe.data.eval_share or eval_place(recipe.data) is not None:
            rows = recipe.train.eval_batch_size or recipe.train.batch_size
            evaluation = stage.evaluate(replace(batch, rows=rows), question.task.statistics)
    except (LorakitError, NotImplementedError, RuntimeError) as error:
        # Models are other people's code: what runs without values cannot be known beforehand.
        return replace(known, refused=first_line(error))
    # What is trained depends on the method, which the plan alone does not know.
    trained = sum(parameter.numel() for parameter in stage.trained)
    states = ("weights", "adapter", "optimiser")
    exact = replace(
        found, parameters=trained, adapter_bytes=stage.held,
        training_bytes=sum(adapted.parts[part] for part in states) + trained * FLOAT,
    )  # fmt: skip
    return replace(known, cost=exact, adapted=adapted, full=other, evaluation=evaluation)


def largest_batch(rehearse: Callable[[Batch], Rehearsal], batch: Batch, memory: float) -> int:
    """The most rows of a batch whose peak, with its error, fits into bytes of memory.

    Found by rehearsals up to `TOKENS` tokens, and beyond by the line through the last two.
    """
    room = memory / (1 + ERROR)
    top = max(2, TOKENS // batch.length)
    known: dict[int, int] = {}

    def peak(rows: int) -> int:
        if rows not in known:
            known[rows] = rehearse(replace(batch, rows=rows)).peak
        return known[rows]

    def line(one: int, two: int) -> int:
        return one + int((room - peak(one)) * (two - one) / (peak(two) - peak(one)))

    if peak(1) > room:
        return 0
    fits, fails, guess = 1, 0, 2
    while not fails or fails - fits > 1:
        if not fails and fits >= top:
            return guess
        # Peaks rise nearly in a line, so that it finds the place in a few steps.
        rows = min(max(guess, fits + 1), fails - 1 if fails else top)
        if peak(rows) <= room:
            guess = line(fits, rows) if not fails else line(rows, fails)
            fits = rows
        else:
            fails = rows
            guess = line(fits, fails)
    return fits


def step_seconds(rehearsal: Rehearsal, speed: Speed, passes: int = 1) -> float:
    """Seconds of a step: of each operation the time of its products or of its bytes."""
    each = sum(times * speed.seconds(*one) for one, times in rehearsal.work.items())
    return each * passes / min(passes, 2)
