"""What a benchmark is: which files are which split, what fields mean, what is measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from lorakit.core.errors import DataError, RecipeError, shortlist
from lorakit.tasks.rows import Row, Source, hub_rows, is_hub_id, no_place, read_file

if TYPE_CHECKING:
    from lorakit.tasks.options import DataOptions

Files = Mapping[str, tuple[str, ...]]  # split -> patterns of file names, the likeliest first
ALIASES = {"eval": "dev", "validation": "dev", "val": "dev"}
SCORED = ("classification", "regression")  # tasks whose own metrics are the benchmark's


def plain(file: Path) -> Iterator[Row]:
    """The rows of a file as any other file of its type is read."""
    return read_file(file, Source())


@dataclass(frozen=True)
class Hub:
    """How a dataset of the hub differs from the benchmark's own files."""

    fields: Mapping[str, str] = field(default_factory=dict)  # our field -> the hub's
    labels: tuple[str, ...] = ()  # words for the hub's numbers
    splits: Mapping[str, str] = field(
        default_factory=lambda: {"train": "train", "dev": "validation", "test": "test"}
    )
    change: Callable[[Row], Row] = lambda row: row

    def row(self, row: Row, label: str | None) -> Row:
        """The row with the benchmark's own fields and labels."""
        row = self.change(row)
        fields = dict(row.fields)
        fields.update({ours: fields[theirs] for ours, theirs in self.fields.items()})
        number = fields.get(label) if label else None
        if self.labels and isinstance(number, int) and 0 <= number < len(self.labels):
            fields[str(label)] = self.labels[number]
        elif number == -1:  # the hub's way to leave a label out, or a score
            del fields[str(label)]
        return Row(fields, row.file, row.number, row.unit)


@dataclass(frozen=True)
class Benchmark:
    """One benchmark in its official files.

    `sets` are the recipe's data fields that it fills in; a user's own win. Of rows that share the
    field `group` each is one reference for the same question; the field `answers` lists all that
    are right. `blank` is the word that stands for "there is no answer".
    """

    name: str
    about: str
    tasks: tuple[str, ...]  # the tasks that can learn it, the usual one first
    files: Files
    sets: Mapping[str, str]
    metrics: tuple[str, ...]  # the official ones, the main one first
    read_one: Callable[[Path], Iterator[Row]] = plain
    folder: str = ""  # the official name of its folder
    group: str | None = None
    answers: str | None = None
    blank: str | None = None
    keep: Callable[[Benchmark, str, str, Iterable[Row]], Iterable[Row]] | None = None
    hub: Hub | None = None

    @property
    def best(self) -> tuple[str, bool] | None:
        """The metric that training chooses by, and that more is better; None leaves the task's."""
        return (self.metrics[0], True) if self.tasks[0] in SCORED else None

    def check_task(self, task: str) -> None:
        """Raise `RecipeError` for a task that cannot learn this benchmark."""
        if task not in self.tasks:
            raise RecipeError(
                f"task is {task!r}, but {self.name} is for {' or '.join(self.tasks)}. Set task: "
                f"{self.tasks[0]}."
            )

    def fill(self, options: DataOptions) -> DataOptions:
        """The options with the benchmark's meaning of fields where the user gave none."""
        unset = {key: value for key, value in self.sets.items() if getattr(options, key) is None}
        return options.model_copy(update=unset)

    def read(self, place: str, split: str, limit: int | None = None) -> list[Row]:
        """The rows of a split, or of the one file that `place` is; or `DataError`."""
        split = self.split(split)
        rows: Iterable[Row] = self._rows(place, split)
        if self.keep is not None:
            rows = self.keep(self, place, split, rows)
        found = list(islice(rows, limit))
        if not found:
            raise DataError(f"{place} holds no rows of {self.name} ({split}).")
        for row in found:
            self._check(row)
        return found

    def has(self, place: str, split: str) -> bool:
        """Whether a folder has this split."""
        path = Path(place).expanduser()
        return path.is_dir() and bool(self._found(path, self.split(split)))

    def find(self, place: str, split: str) -> list[Path]:
        """The files of a split, as `read` takes them; none for a dataset of the hub."""
        split, path = self.split(split), Path(place).expanduser()
        if path.is_file():
            return [path]
        if not path.is_dir():
            if is_hub_id(place):
                return []
            raise no_place(place)
        found = self._found(path, split)
        if not found:
            raise DataError(
                f"{place} has no files of {self.name} for {split}; expected "
                f"{' or '.join(self.patterns(split)[:3])}. Name the file itself."
            )
        return found

    def split(self, said: str) -> str:
        """The split's own name, or `DataError`."""
        split = ALIASES.get(said, said)
        if split not in self.files:
            raise DataError(
                f"{self.name} has no split {said!r}; it has {', '.join(self.files)}. Choose one."
            )
        return split

    def patterns(self, split: str) -> tuple[str, ...]:
        """The names that a split's files have, with the folder they officially lie in."""
        return tuple(f"{self.folder}/{name}" if self.folder else name for name in self.files[split])

    def _found(self, folder: Path, split: str) -> list[Path]:
        inside = folder / self.folder if self.folder else folder
        root = inside if inside.is_dir() else folder
        for pattern in self.files[split]:
            files = sorted(path for path in root.glob(pattern) if path.is_file())
            if files:
                return files
        return []

    def _rows(self, place: str, split: str) -> Iterator[Row]:
        files = self.find(place, split)
        try:
            for file in files:
                yield from self.read_one(file)
        except OSError as error:
            raise DataError(f"{place} cannot be read: {error}.") from error
        if not files and self.hub is None:
            raise DataError(
                f"{place} is no local folder, and {self.name} is not read from the hub. Fetch its "
                "files, and name their folder."
            )
        if not files and self.hub is not None:
            for row in hub_rows(place, (self.hub.splits.get(split, split),)):
                yield self.hub.row(row, self.sets.get("label"))

    def _check(self, row: Row) -> None:
        """Raise `DataError` for a row that has no answer, as those of hidden test sets."""
        needed = [self.sets[key] for key in ("label", "completion") if key in self.sets]
        for name in (word.strip("{}") for word in needed):
            if row.fields.get(name) is None:
                raise row.error(
                    f"no {name!r}, which {self.name} needs; it has {shortlist(row.fields, 8)}. "
                    "Test sets are often published without answers: take another split, such as "
                    "dev."
                )
