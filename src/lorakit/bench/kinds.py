"""The kinds of benchmark, and the one loop over their cases."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from lorakit.bench import infer, lifecycle, memory, mixed, modes, peak, train
from lorakit.bench.table import Row


class Kind(Protocol):
    """One file each beside this one: a title, cases with goals, and how a case is measured."""

    TITLE: str

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
