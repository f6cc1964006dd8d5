"""Latency: what an adapter costs when a model answers (Hu et al. 2021, table 1)."""

from __future__ import annotations

import copy
import gc
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from lorakit.bench.bases import DTYPES, Shape, batch, make
from lorakit.bench.timing import interleave
from lorakit.core.errors import LorakitError, RecipeError
from lorakit.models.load import load_config, pick_device
from lorakit.study.figures import Axis, Picture, Series, bars
from lorakit.study.kinds import Cell, Figures, Record, Setting, Shown
from lorakit.study.options import one_of
from lorakit.study.statistics import Interval, median_interval
from lorakit.study.table import Column, Table
from lorakit.study.ways import BASE, Place, way_named

# Milliseconds of GPT-2 medium on a Quadro RTX 8000, by (batch, length): table 1 of the paper.
PAPER = {
    (32, 512): {BASE: 1449.4, "merged": 1449.4, "adapter L": 1482.0, "adapter H": 1492.2},
    (16, 256): {BASE: 338.0, "merged": 338.0, "adapter L": 354.8, "adapter H": 366.3},
    (1, 128): {BASE: 19.8, "merged": 19.8, "adapter L": 23.9, "adapter H": 25.8},
}


class Latency:
    """Forward passes of the base and of adapted copies, in turns, over batch sizes and lengths."""

    name = "latency"
    trains = False
    title = "Inference latency: what an adapter costs when the model answers"
    grows = ()
    why = (
        "Does LoRA cost time at inference? Merged it should cost none, where adapters in the "
        "model's depth cost most when there is little to do in parallel (Hu et al. 2021, section "
        "3 and table 1)."
    )

    def options(self, *, quick: bool) -> dict[str, Any]:
        """Shapes are (batch, length), `threads` the CPU's, `width` that of other adapters.

        Adapter H has half of it at twice as many places; a prefix has as many tokens. Batches of
        few tokens take three times as many `rounds`.
        """
        return {
            "shapes": [[8, 128], [1, 64]] if quick else [list(shape) for shape in PAPER],
            "ways": [BASE, "base again", "merged", "unmerged", "adapter L", "adapter H"],
            "rounds": 9 if quick else 11, "targets": ["q", "v"], "rank": 4, "width": 16,
            "precision": "fp32", "device": "cpu", "threads": 1,
        }  # fmt: skip

    def cells(self, setting: Setting) -> list[Cell]:
        """Every way at every shape."""
        one_of(setting, "precision", DTYPES)
        most = getattr(load_config(setting.model), "max_position_embeddings", None)
        for shape in setting.option("shapes"):
            if len(shape) != 2:
                raise RecipeError(
                    f"study.shapes has {shape}; expected batch and length, as in [[32, 512]]."
                )
            length = shape[1]
            if isinstance(most, int) and length > most:
                raise RecipeError(
                    f"study.shapes has rows of {length} tokens, but the base can place {most}. "
                    f"Pass --study.shapes '[[1, {most}]]', or others that fit."
                )
        ways = setting.option("ways")
        for way in ways:
            way_named(way)
        return [
            Cell({"batch": rows, "length": length, "way": way})
            for rows, length in setting.option("shapes")
            for way in ways
        ]

    def group(self, cell: Cell) -> Hashable:
        """All ways at one shape take turns."""
        return cell.settings["batch"], cell.settings["length"]

    def measure(
        self, cells: Sequence[Cell], setting: Setting, folder: Path
    ) -> Iterator[Figures | LorakitError]:
        """Seconds of every round, and the base's of the same rounds with them."""
        rows, length = self.group(cells[0])  # type: ignore[misc]
        shape = Shape(rows=rows, length=length, folder=setting.model)
        device = str(pick_device(setting.option("device")))
        base = make(shape, DTYPES[setting.option("precision")], device).eval()
        ids = batch(shape, base)["input_ids"]
        place = Place(setting.option("targets"), setting.option("rank"), setting.option("width"))
        names = list(dict.fromkeys([BASE, *(cell.settings["way"] for cell in cells)]))
        models, failed = {}, {}
        for name in names:
            own = copy.deepcopy(base)
            try:
                way_named(name)(own, place)
            except LorakitError as error:  # this base cannot have it: the others go on
                failed[name] = error
            else:
                models[name] = own
        with threads(setting.option("threads")):
            passes = _passes(models[BASE].eval(), ids)
            timings = interleave(
                {name: _steps(model.eval(), ids, passes) for name, model in models.items()},
                _rounds(setting.option("rounds"), shape), device=device,
            )  # fmt: skip
        del models, base
        gc.collect()
        floor = timings[BASE]
        for cell in cells:
            if cell.settings["way"] in failed:
                yield failed[cell.settings["way"]]
                continue
            own = timings[cell.settings["way"]]
            told = {
                "seconds": own.seconds, "wall": own.wall, "base_seconds": floor.seconds,
                "base_wall": floor.wall,
            }  # fmt: skip
            yield {name: [value / passes for value in values] for name, values in told.items()}

    def show(self, records: Sequence[Record], setting: Setting) -> Shown:
        """Times, and how many times the base's they are, paired round by round."""
        others = [own for own in records if own.settings["way"] != BASE]
        rows = [_row(own) for own in records]
        columns = [
            Column("batch x length"), Column("way"), Column("latency", "ms"),
            Column("times the base's", digits=3), Column("by wall time", digits=3),
            Column("in the paper", digits=3, quoted=True),
        ]  # fmt: skip
        if not any(row[-1] for row in rows):
            columns, rows = columns[:-1], [row[:-1] for row in rows]
        told = {own.how for row in rows for own in row if isinstance(own, Interval)}
        notes = [
            f"Medians of {_told(len(own.figures['seconds']) for own in records)} rounds in which "
            "all ways take turns; times are the process's own, which a busy machine does not "
            "stretch, and ratios are taken within a round. Intervals: "
            f"{'; '.join(sorted(told))}. LoRA has rank {setting.option('rank')} on "
            f"{', '.join(setting.option('targets'))}; the bottlenecks "
            f"of adapter L have width {setting.option('width')}, the twice as many of adapter H "
            "half of it.",
        ]
        if len(columns) > 5:
            notes.append("The paper's: GPT-2 medium on an NVIDIA Quadro RTX 8000, 100 trials each.")
        table = Table("latency", "Latency of a forward pass", columns, rows, notes, sections=0)
        return Shown(
            _sentences(others),
            [table],
            [_picture(others)] if others else [],
        )


def _steps(model: Any, ids: torch.Tensor, passes: int) -> Callable[[], None]:
    @torch.no_grad()
    def step() -> None:
        for _ in range(passes):
            model(input_ids=ids, use_cache=False)

    return step


def _passes(model: Any, ids: torch.Tensor) -> int:
    """So many passes that a turn takes a tenth of a second: shorter ones are mostly noise."""
    step = _steps(model, ids, 1)
    step()
    began = time.perf_counter()
    step()
    return max(1, round(0.1 / max(time.perf_counter() - began, 1e-4)))


def _rounds(least: int, shape: Shape) -> int:
    """Three times as many rounds for a batch of few tokens: they are short, and noisier."""
    return 3 * least if shape.rows * shape.length <= 1024 else least


def _told(counts: Iterable[int]) -> str:
    return " or ".join(map(str, sorted(set(counts))))


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let torch use so many threads of the CPU here."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _ratio(record: Record, kind: str = "seconds") -> Interval:
    own, floor = record.figures[kind], record.figures[f"base_{kind}"]
    return median_interval([one / two for one, two in zip(own, floor)])


def _row(record: Record) -> list[Any]:
    rows, length, way = record.settings.values()
    times = median_interval([1000 * second for second in record.figures["seconds"]])
    paper = PAPER.get((rows, length), {})
    quoted = paper[way] / paper[BASE] if way in paper else None
    ratios = [None, None] if way == BASE else [_ratio(record), _ratio(record, "wall")]
    return [_shape(record), way, times, *ratios, quoted]


def _shape(record: Record) -> str:
    return f"{record.settings['batch']} x {record.settings['length']}"


def _sentences(records: Sequence[Record]) -> list[str]:
    """What every way costs, a sentence for each shape."""
    found: dict[str, list[str]] = {}
    for own in records:
        ratio = _ratio(own)
        ends = "" if ratio.low is None else f" ({ratio.low:.3f} to {ratio.high:.3f})"
        found.setdefault(_shape(own), []).append(f"{own.settings['way']} {ratio.mean:.3f}{ends}")
    return [
        f"At {shape}, times the base's latency: {', '.join(ways)}." for shape, ways in found.items()
    ]


def _picture(records: Sequence[Record]) -> Picture:
    shapes = list(dict.fromkeys(_shape(own) for own in records))
    series = []
    for way in dict.fromkeys(own.settings["way"] for own in records):
        mine = {_shape(own): _ratio(own) for own in records if own.settings["way"] == way}
        have = [mine.get(shape) for shape in shapes]
        series.append(
            Series(
                way,
                [own.mean if own else 0.0 for own in have],
                [own.low if own else None for own in have],
                [own.high if own else None for own in have],
            )
        )
    caption = (
        "Latency over that of the base in the same round, by batch size and length in tokens; the "
        "dashed line is the base."
    )
    y = Axis("latency, times the base's")
    return bars("latency", caption, shapes, y, series, reference=1)
