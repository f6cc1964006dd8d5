"""What a study is: cells that are measured one by one, and a page that is made of them."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from lorakit.core.errors import LorakitError
from lorakit.study.figures import Picture
from lorakit.study.ledger import key_of
from lorakit.study.table import Table
from lorakit.train.recipe import Recipe

Figures = dict[str, Any]  # numbers, text and lists of them: JSON


@dataclass(frozen=True)
class Cell:
    """One measurement of a study; its settings, JSON in the order of display, are its identity."""

    settings: dict[str, Any]

    @property
    def key(self) -> str:
        """The settings as canonical JSON."""
        return key_of(self.settings)

    def __str__(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in self.settings.items())


@dataclass(frozen=True)
class Record:
    """A cell that was measured: its figures, or the error that it ended with.

    `seconds` are those since the cell before it in its group, or since the group began.
    """

    settings: dict[str, Any]
    figures: Figures
    seconds: float
    error: str | None = None

    @property
    def key(self) -> str:
        """That of its cell."""
        return key_of(self.settings)


@dataclass(frozen=True)
class Setting:
    """What a study is run on, and where its results go.

    `recipe` is what it trains, `adapters` are folders it looks at instead, `options` the study's
    own: all of those that `Study.options` names. `quiet` is for bars on stderr.
    """

    model: str
    out: Path
    options: Mapping[str, Any] = field(default_factory=dict)
    recipe: Recipe | None = None
    adapters: tuple[str, ...] = ()
    quiet: bool = False

    def option(self, name: str) -> Any:
        """The value of one of the study's own options."""
        return self.options[name]


@dataclass(frozen=True)
class Shown:
    """What a study came to: sentences, tables and pictures."""

    findings: list[str]
    tables: list[Table]
    pictures: list[Picture] = field(default_factory=list)


class Study(Protocol):
    """One file each in `study/`, and a line in `STUDIES`."""

    @property
    def name(self) -> str:
        """What the command calls it."""
        ...

    @property
    def trains(self) -> bool:
        """Whether it trains adapters by a recipe, or looks at given ones; else a base will do."""
        ...

    @property
    def title(self) -> str:
        """The heading of its report."""
        ...

    @property
    def why(self) -> str:
        """The question it answers, and where the paper asks it."""
        ...

    @property
    def grows(self) -> tuple[str, ...]:
        """Options that only choose cells, so that a study can go on with more of them."""
        ...

    def options(self, *, quick: bool) -> dict[str, Any]:
        """Its own options with their defaults: JSON; `quick` ones take a fraction of the time."""
        ...

    def cells(self, setting: Setting) -> list[Cell]:
        """Every measurement, in the order in which they are made."""
        ...

    def group(self, cell: Cell) -> Hashable:
        """Cells of one group are measured together, such as the seeds of one setting."""
        ...

    def measure(
        self, cells: Sequence[Cell], setting: Setting, folder: Path
    ) -> Iterator[Figures | LorakitError]:
        """The figures of each cell in turn; what failed for one alone is given in its place.

        `cells` are those of a group that are not measured yet. `folder` is for what it has to keep,
        and is the same when a study goes on.
        """
        ...

    def show(self, records: Sequence[Record], setting: Setting) -> Shown:
        """Tables and pictures, from the records of measured cells alone, in the cells' order."""
        ...
