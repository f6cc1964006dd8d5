"""A forecast as people and machines read it: text and JSON."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from lorakit.analysis.allocations import PARTS
from lorakit.analysis.machine import free_memory, measure_speed, process_bytes
from lorakit.core.errors import PlanError
from lorakit.models.load import DTYPES, kind_of, pick_device, read_config
from lorakit.models.rehearse import Batch, Rehearsal
from lorakit.train.advice import Advice, advise
from lorakit.train.expected import LENGTH, Expected
from lorakit.train.forecast import (
    ERROR,
    Forecast,
    Question,
    forecast,
    largest_batch,
    step_seconds,
)
from lorakit.train.options import LOW_RANK
from lorakit.train.recipe import make_recipe, set_field
from lorakit.train.steps import steps_of

TASKS = {"causal": "text", "seq2seq": "seq2seq", "classes": "classification"}  # by kind of model
UNITS = {"": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12, "kib": 2**10, "mib": 2**20,
         "gib": 2**30, "tib": 2**40}  # fmt: skip


class Asked(NamedTuple):
    """What is asked beside a recipe: memory such as "24GB", a step's time, and how much data."""

    memory: str | None = None
    calibrate: bool = False
    rows: int | None = None
    tokens: int | None = None


@dataclass
class Outlook:
    """A forecast with what was asked beside it: `memory` in bytes and where that is known from.

    `rows` and `full_rows` are the largest batches that fit, `seconds` those of a step, `process`
    the bytes of a process before it has a model.
    """

    forecast: Forecast
    precision: str
    advice: Sequence[Advice] = field(default_factory=list)
    memory: int | None = None
    source: str = ""
    rows: int | None = None
    full_rows: int | None = None
    seconds: float | None = None
    process: int | None = None
    device: str = "cpu"

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON: bytes, FLOPs and seconds."""
        found = self.forecast
        batch = asdict(found.expected.batch)
        rehearsals = {
            name: None if own is None else {**own.parts, "peak": own.peak, "flops": own.flops}
            for name, own in (
                ("adapter", found.adapted), ("full", found.full), ("evaluation", found.evaluation),
            )
        }  # fmt: skip
        return {
            **found.cost.as_dict(),
            "batch": {**batch, "source": found.expected.source},
            "memory": {**rehearsals, "error": ERROR, "refused": found.refused or None},
            "largest_batch": {
                "memory": self.memory, "adapter": self.rows, "full": self.full_rows,
            },
            "process_bytes": self.process,
            "step_seconds": self.seconds,
            "advice": [asdict(advice) for advice in self.advice],
        }  # fmt: skip

    def __str__(self) -> str:
        found = self.forecast
        lines = [str(found.cost), "", *self._memory()]
        if self.memory is not None and self.rows is not None:
            lines.append(
                f"largest batch in {_size(self.memory)} ({self.source}): {self.rows:,} rows; full "
                f"fine-tuning {self.full_rows or 0:,}"
            )
        if found.adapted is not None and found.full is not None:
            lines.append(
                f"work of a step  {_flops(found.adapted)}; full fine-tuning {_flops(found.full)}"
            )
        if self.seconds is not None:
            lines.append(f"time of a step  {self.seconds:.3g} s here, within a factor of 2")
        if self.advice:
            sources = dict.fromkeys(advice.source for advice in self.advice)
            lines += ["", f"advice, from {', '.join(sources)}", *map(str, self.advice)]
        return "\n".join(lines)

    def _memory(self) -> list[str]:
        found, batch = self.forecast, self.forecast.expected.batch
        targets = "" if batch.targets is None else f" to {batch.targets}"
        what = (
            f"memory of a step of {batch.rows} x {batch.length}{targets} tokens in "
            f"{self.precision} (length: {found.expected.source})"
        )
        if found.adapted is None or found.full is None:
            return [f"{what}: not known. {found.refused}"]
        adapted, full = found.adapted, found.full
        lines = [f"{what}, in MB of 1e6 bytes", f"{'':<12}{'adapter':>12}{'in full':>12}"]
        lines += [
            f"{part:<12}{adapted.parts[part] / 1e6:>12,.1f}{full.parts[part] / 1e6:>12,.1f}"
            for part in PARTS
        ]
        lines.append(
            f"{'peak':<12}{adapted.peak / 1e6:>12,.1f}{full.peak / 1e6:>12,.1f}   +- {ERROR:.0%}"
        )
        if found.evaluation is not None:
            lines.append(f"{'evaluating':<12}{found.evaluation.peak / 1e6:>12,.1f}")
        if self.process is not None:
            lines.append(f"and the process itself, before it has a model: {_size(self.process)}")
        if self.device == "cpu":
            lines.append(
                "freed memory comes on top where malloc keeps it, as glibc's defaults do; with "
                "MALLOC_MMAP_THRESHOLD_=1000000 it goes back"
            )
        return lines


def outlook(question: Question, asked: Asked) -> Outlook:
    """The forecast of a recipe with what depends on this machine, and advice.

    Raises `PlanError` for memory that is no number of bytes.
    """
    recipe, seen = question.recipe, question.expected
    device = pick_device(recipe.train.device)
    memory = free_memory(device) if asked.memory is None else bytes_of(asked.memory)
    found = forecast(question)
    made = Outlook(
        found, recipe.train.precision, memory=memory, process=process_bytes(), device=device.type,
        source="what is free here" if asked.memory is None else "as asked",
    )  # fmt: skip
    if found.adapted is not None:
        if memory is not None:
            _, _, extras = question.cost()
            adapted, full = (
                question.stage(found.plan, extras, full=own).rehearse for own in (False, True)
            )
            made.rows = largest_batch(adapted, seen.batch, memory)
            made.full_rows = largest_batch(full, seen.batch, memory)
        if asked.calibrate:
            speed = measure_speed(DTYPES[recipe.train.precision], device)
            made.seconds = step_seconds(found.adapted, speed, seen.batch.passes)
    rows = asked.rows or seen.rows
    known = recipe.train.steps is not None or rows is not None
    if recipe.method not in LOW_RANK:  # what is known is known of low ranks
        return made
    made.advice = advise(
        question.structure(), found.plan,
        parameters=found.cost.parameters - sum(found.cost.extras.values()),
        tokens=_tokens(asked, seen), steps=steps_of(recipe, rows or 1) if known else None,
        rows=recipe.train.batch_size * recipe.train.accumulate,
    )  # fmt: skip
    return made


def about_model(name: str, fields: Mapping[str, Any]) -> Question:
    """A question about a model alone: a recipe without data, with these fields set by name."""
    raw: dict[str, Any] = {"model": name, "data": {"train": "none"}, "output": "none"}
    config = read_config(name)
    raw["task"] = TASKS[kind_of(config)]
    for field_name, value in fields.items():
        set_field(raw, field_name, value)
    recipe = make_recipe(raw, name)
    length = recipe.data.max_length or LENGTH
    most = getattr(config, "max_position_embeddings", None)
    if most is not None and length > most:
        if recipe.data.max_length is not None:
            raise PlanError(f"Rows of {length} tokens are too long: this base can place {most}.")
        length = most
    batch = Batch(
        recipe.train.batch_size, length, passes=recipe.train.accumulate,
        full=recipe.task == "text" or recipe.train.batch_size == 1,
    )  # fmt: skip
    where = "as asked" if recipe.data.max_length is not None else "assumed"
    return Question(recipe, Expected(batch, where))


def bytes_of(said: str) -> int:
    """A size in words, such as "24GB" (1e9 bytes) or "24 GiB" (2^30), in bytes, or `PlanError`."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?(?:[eE]\d+)?)\s*([A-Za-z]*)\s*", said)
    number = 0.0 if found is None else float(found[1])
    if found is None or found[2].lower() not in UNITS or not 0 < number < math.inf:
        raise PlanError(f"{said!r} is no size of memory; expected one such as 24GB or 24GiB.")
    return round(number * UNITS[found[2].lower()])


def _tokens(asked: Asked, seen: Expected) -> int | None:
    """Tokens to be learned in the data: as asked, as seen, or as many as so many rows can hold."""
    if asked.tokens is not None or asked.rows is None:
        return asked.tokens or seen.tokens
    if seen.rows is not None and seen.tokens is not None:
        return round(seen.tokens / seen.rows * asked.rows)
    return asked.rows * (seen.batch.targets or seen.batch.length)


def _size(count: float) -> str:
    return f"{count / 1e9:,.2f} GB" if count >= 1e9 else f"{count / 1e6:,.0f} MB"


def _flops(rehearsal: Rehearsal) -> str:
    return f"{rehearsal.flops / 1e9:,.1f} GFLOP"
