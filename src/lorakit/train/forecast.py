"""What a recipe would adapt and cost, from the base's config and the data alone."""

from __future__ import annotations

from lorakit.analysis.cost import Cost, cost
from lorakit.core.plan import Plan
from lorakit.methods.whole import find_extras
from lorakit.models.load import DTYPES, empty_model
from lorakit.models.roles import head_paths
from lorakit.tasks import make_task
from lorakit.tasks.data import read_data
from lorakit.train.ranks import ranks_forecast
from lorakit.train.recipe import Recipe


def forecast(recipe: Recipe) -> tuple[Plan, Cost]:
    """The plan of a recipe and its cost. The data are read only where they decide the head."""
    task = make_task(recipe.task, recipe.data)
    if task.kind == "classes":
        read_data(recipe.data, task, recipe.train.seed)
    model = empty_model(recipe.model, task.kind, task.labels())
    chosen = ranks_forecast(recipe, model)
    extras = find_extras(model, tuple(recipe.lora.extras))
    if task.kind == "classes":
        # A base without this head, as most are, gets a new one, which is trained in full.
        heads = sorted(head_paths(model), key=len)
        extras += [p for p in heads if not any(f"{p}.".startswith(f"{e}.") for e in extras)]
        extras = [
            path for path in extras if any(True for _ in model.get_submodule(path).parameters())
        ]
    width = DTYPES[recipe.train.precision].itemsize
    return chosen, cost(model, chosen, extras=extras, weight_bytes=width)
