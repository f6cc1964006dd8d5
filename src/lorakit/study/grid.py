"""Run a study: measure the cells that are missing, then write what they came to."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tqdm import tqdm

from lorakit.core.errors import LorakitError, RecipeError, Stopped, TrainingError
from lorakit.study.identity import claim
from lorakit.study.kinds import Cell, Figures, Record, Setting, Shown, Study
from lorakit.study.ledger import Ledger
from lorakit.study.report import write_report
from lorakit.study.trim import trim
from lorakit.train.lock import owned

CELLS = "cells.jsonl"
WORK = "work"  # what cells keep, such as trained adapters


@dataclass(frozen=True)
class Done:
    """A study that has run: its folder, its records in the cells' order, and what they came to."""

    folder: Path
    records: list[Record]
    shown: Shown

    @property
    def failed(self) -> list[Record]:
        """The cells that ended with an error."""
        return [record for record in self.records if record.error]


def run_study(study: Study, setting: Setting, *, retry: bool = False) -> Done:
    """Measure every cell that `OUT/cells.jsonl` does not have yet, then write report and tables.

    A cell that fails is recorded with its error, and the others go on; `retry` measures failed ones
    again. Ended at any moment, it goes on where it stopped. Raises `ResumeError` where the folder
    holds another study, `Stopped` on Ctrl-C, `TrainingError` where no cell could be measured.
    """
    cells = study.cells(setting)
    _check_cells(cells)
    setting.out.mkdir(parents=True, exist_ok=True)
    with owned(setting.out):
        claim(study, setting)
        ledger = Ledger(setting.out / CELLS)
        ledger.mend()
        have = {key: own for key, own in read_records(ledger).items() if not (retry and own.error)}
        missing = [cell for cell in cells if cell.key not in have]
        with tqdm(
            total=len(cells), initial=len(cells) - len(missing), unit="cell",
            disable=setting.quiet, dynamic_ncols=True, smoothing=0.1,
            mininterval=0.1 if sys.stderr.isatty() else 10,
        ) as bar:  # fmt: skip

            def keep(record: Record) -> None:
                ledger.add(asdict(record))
                have[record.key] = record
                bar.update()

            try:
                for group in _grouped(missing, study.group):
                    bar.set_postfix_str(_shortened(str(group[0])), refresh=sys.stderr.isatty())
                    _measure(study, group, setting, keep)
                    trim()
            except (KeyboardInterrupt, Stopped) as error:
                done = sum(cell.key in have for cell in cells)
                raise Stopped(
                    f"Stopped with {done} of {len(cells)} cells done, which are kept in "
                    f"{setting.out}. Run the same command again to go on."
                ) from error
        return _finish(study, setting, [have[cell.key] for cell in cells])


def read_records(ledger: Ledger) -> dict[str, Record]:
    """The last record of every cell, by the cell's key."""
    found = [Record(**entry) for entry in ledger.read()]
    return {record.key: record for record in found}


def _measure(
    study: Study, group: list[Cell], setting: Setting, keep: Callable[[Record], None]
) -> None:
    """Measure one group; an error ends the cell it was raised for, and the rest begin anew."""
    left = list(group)
    while left:
        began = time.perf_counter()

        def record(outcome: Figures | LorakitError, began: float) -> Record:
            seconds = round(time.perf_counter() - began, 3)
            if isinstance(outcome, LorakitError):
                return Record(left[0].settings, {}, seconds, str(outcome))
            error = _no_json(outcome)
            return Record(left[0].settings, {} if error else outcome, seconds, error)

        try:
            for outcome in study.measure(list(left), setting, setting.out / WORK):
                keep(record(outcome, began))
                began = time.perf_counter()
                left.pop(0)
            if left:
                raise AssertionError(f"{study.name} measured too few cells: {left[0]} is missing")
        except Stopped:
            raise
        except LorakitError as error:
            keep(record(error, began))
            left.pop(0)


def _no_json(figures: Figures) -> str | None:
    """What is wrong with figures that no file can hold, such as a loss that is no number."""
    try:
        json.dumps(figures, allow_nan=False)
    except ValueError:
        return f"A figure is not finite: {figures}"
    return None


def _finish(study: Study, setting: Setting, records: list[Record]) -> Done:
    good = [record for record in records if record.error is None]
    if not good:
        raise TrainingError(
            f"None of {len(records)} cells could be measured; the first: {records[0].error}"
        )
    shown = study.show(good, setting)
    done = Done(setting.out, records, shown)
    write_report(study, setting, shown, records)
    return done


def _grouped(cells: Sequence[Cell], group: Callable[[Cell], Hashable]) -> Iterable[list[Cell]]:
    """The cells by group, groups in the order of their first cells."""
    found: dict[Hashable, list[Cell]] = {}
    for cell in cells:
        found.setdefault(group(cell), []).append(cell)
    return found.values()


def _check_cells(cells: Sequence[Cell]) -> None:
    seen: set[str] = set()
    for cell in cells:
        if cell.key in seen:
            raise RecipeError(f"Two cells are the same: {cell}. Name each value once.")
        seen.add(cell.key)
    if not cells:
        raise RecipeError("The options leave nothing to measure. Name at least one of each.")


def _shortened(text: str, length: int = 40) -> str:
    return text if len(text) <= length else text[: length - 3] + "..."
