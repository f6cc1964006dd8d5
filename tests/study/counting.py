"""A study that writes down what it measures; run as a program it is there to be killed."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from lorakit.core.errors import DataError
from lorakit.study.figures import Axis, Series, lines
from lorakit.study.grid import run_study
from lorakit.study.kinds import Cell, Record, Setting, Shown
from lorakit.study.statistics import interval
from lorakit.study.table import Column, Table


class Counting:
    """Squares, by seed; `fail` names a cell that fails, `stop` one at which Ctrl-C is pressed."""

    name = "counting"
    grows = ()
    trains = False
    title = "Squares & <b>roots</b>"
    why = "What is <i>n</i> times n?"

    def __init__(self, journal: Path, *, fail=None, stop=None, together=True, wait=0.0) -> None:
        self.journal, self.fail, self.stop = journal, fail, stop
        self.together, self.wait = together, wait

    def options(self, *, quick):
        return {"numbers": [1, 2, 3], "seeds": [0, 1]}

    def cells(self, setting):
        return [
            Cell({"number": number, "seed": seed})
            for number in setting.option("numbers")
            for seed in setting.option("seeds")
        ]

    def group(self, cell):
        return cell.settings["number"] if self.together else cell.key

    def measure(self, cells, setting, folder):
        for cell in cells:
            number, seed = cell.settings.values()
            with self.journal.open("a") as journal:
                journal.write(f"{number}/{seed}\n")
            time.sleep(self.wait)
            if (number, seed) == self.stop:
                raise KeyboardInterrupt
            if (number, seed) == self.fail:
                raise DataError("This cell <fails> & says so.")
            yield {"square": number**2 + seed, "rows": [number, seed]}

    def show(self, records: list[Record], setting: Setting) -> Shown:
        numbers = sorted({own.settings["number"] for own in records})
        means = [
            interval([r.figures["square"] for r in records if r.settings["number"] == n])
            for n in numbers
        ]
        columns = [Column("n <i>"), Column("square", best="high")]
        rows = [[f"<b>{n}</b>", mean] for n, mean in zip(numbers, means)]
        series = Series("square", [m.mean for m in means], [m.low for m in means])
        picture = lines("squares", "Squares <of> n", (Axis("n"), numbers), Axis("n n"), [series])
        return Shown(["Found <em>it</em>."], [Table("t", "Squares", columns, rows)], [picture])


def setting_for(model: str, out: Path, **options) -> Setting:
    chosen = {"numbers": [1, 2, 3], "seeds": [0, 1], **options}
    return Setting(model, out, chosen, quiet=True)


if __name__ == "__main__":
    model, out, journal = sys.argv[1:]
    study = Counting(Path(journal), together=False, wait=0.3)
    run_study(study, setting_for(model, Path(out)))
