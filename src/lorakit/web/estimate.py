"""What a training would take, said in one line before it begins."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from markupsafe import Markup

from lorakit.analysis.machine import Speed, free_memory, measure_speed, process_bytes
from lorakit.models.load import DTYPES, pick_device
from lorakit.train.forecast import Question, forecast, step_seconds
from lorakit.train.kept import Kept, shapes_of
from lorakit.train.recipe import Recipe
from lorakit.train.steps import steps_of
from lorakit.web.told import size, span


@dataclass(frozen=True)
class Estimate:
    """Parameters, bytes of the file, bytes at the peak and free ones, steps, and seconds."""

    parameters: int
    share: float
    file: int
    peak: int | None
    free: int | None
    steps: int | None
    seconds: float | None

    @property
    def too_large(self) -> bool:
        """Whether it would not fit into the memory that is free now."""
        return self.peak is not None and self.free is not None and self.peak > self.free

    def html(self) -> str:
        """The line."""
        facts = [
            (f"{self.parameters:,}", f"parameters, {self.share:.2%} of the base"),
            (size(self.file), "on disk"),
        ]
        if self.peak is not None:
            free = "" if self.free is None else f"of {size(self.free)} free"
            facts.append((size(self.peak), f"of memory {free}".strip()))
        if self.steps is not None:
            facts.append((f"{self.steps:,}", "steps"))
        if self.seconds is not None:
            facts.append((f"about {span(self.seconds)}", "here"))
        items = Markup("").join(Markup("<li><b>{}</b> {}</li>").format(*fact) for fact in facts)
        worry = Markup(
            '<div class="told bad" role="alert">This takes more memory than is free. Take a '
            "smaller batch, shorter rows, bf16 or checkpointing, under All settings.</div>"
        )
        text = Markup('<ul class="facts">{}</ul>{}').format(items, worry if self.too_large else "")
        return str(text)


def estimate(recipe: Recipe) -> Estimate:
    """The estimate for a recipe, from shapes and a look at its rows."""
    found = _forecast(recipe)
    device = pick_device(recipe.train.device)
    rows = found.expected.rows
    known = recipe.train.steps is not None or rows is not None
    steps = steps_of(recipe, rows or 1) if known else None
    seconds = None
    if found.adapted is not None and steps is not None:
        speed = _speed(recipe.train.precision, device.type)
        seconds = steps * step_seconds(found.adapted, speed, found.expected.batch.passes)
    peak = found.peak
    if peak is not None and device.type == "cpu":
        peak += process_bytes() or 0
    cost = found.cost
    return Estimate(
        cost.parameters, cost.parameters / max(1, cost.base_parameters), cost.adapter_bytes, peak,
        free_memory(device), steps, seconds,
    )  # fmt: skip


@functools.cache
def _speed(precision: str, device: str) -> Speed:
    return measure_speed(DTYPES[precision], pick_device(device))


_forecast = Kept(lambda recipe: forecast(Question(recipe), full=False), shapes_of)
