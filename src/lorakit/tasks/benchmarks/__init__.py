"""The benchmarks, by name: one file for each family, and one line in `FAMILIES`."""

from __future__ import annotations

from lorakit.core.errors import RecipeError, did_you_mean
from lorakit.tasks.benchmarks import glue, squad, superglue, tables, texts
from lorakit.tasks.benchmarks.base import Benchmark

FAMILIES = (glue, superglue, squad, tables, texts)
BENCHMARKS = {own.name: own for family in FAMILIES for own in family.BENCHMARKS}


def benchmark_named(name: str) -> Benchmark:
    """The benchmark of this name, or `RecipeError` that names the nearest."""
    if name not in BENCHMARKS:
        hint = did_you_mean(name, BENCHMARKS) or f" Known are {', '.join(BENCHMARKS)}."
        raise RecipeError(f"There is no benchmark {name!r}.{hint}")
    return BENCHMARKS[name]
