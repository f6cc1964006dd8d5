"""The kinds of benchmark, and the one loop over their cases."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

from lorakit.bench import infer, lifecycle, memory, mixed, modes, peak, train
from lorakit.bench.table import Row
from lorakit.core.errors import PlanError
from lorakit.models.load import check_folder


class Kind(Protocol):
    """One file each beside this one: a title, cases with goals, and how a case is measured.

    `WHY` says what stands between the rows whose goal is not reached and the goal.
    """

    TITLE: str
    WHY: str

    def cases(self) -> Sequence[Any]:
        """The rows of the table, in order; `str` of each says what it is."""
        ...

    def measure(self, case: Any, *, rounds: int, device: str) -> Row:
        """One row."""
        ...


KINDS: dict[str, Kind] = {  # type: ignore[assignment]
    "train": train, "modes": modes, "memory": memory, "peak": peak, "infer": infer, "mixed": mixed,
    "lifecycle": lifecycle,
}  # fmt: skip


def with_model(kind: Kind, cases: Sequence[Any], folder: str) -> list[Any]:
    """The cases with the model of a folder in the place of their own, without goals.

    Raises `PlanError` for the lifecycle, which has bases of its own.
    """
    if kind is KINDS["lifecycle"]:
        raise PlanError("lifecycle has bases of its own. Leave --model out, or name another kind.")
    check_folder(folder)
    shapes = [replace(case.shape, folder=folder) for case in cases]
    made = [replace(case, shape=s, goal=None) for case, s in zip(cases, shapes)]
    return list({str(case): case for case in made}.values())


def measure(
    kind: Kind, chosen: Sequence[Any], *, rounds: int = 15, device: str = "cpu",
    progress: Callable[[str], object] = str,  # which does nothing
) -> list[Row]:  # fmt: skip
    """Every case; each is told as it is done, so that a run that is stopped was not for nothing."""
    rows = []
    for case in chosen:
        progress(str(case))
        row = kind.measure(case, rounds=rounds, device=device)
        progress("  " + "; ".join(f"{name} {value}" for name, value in row.values.items()))
        rows.append(row)
        gc.collect()  # models hold themselves in circles: the next case is to have their memory
    return rows
