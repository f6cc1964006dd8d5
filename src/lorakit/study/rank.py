"""Ranks: how large they have to be, by place (Hu et al. 2021, table 6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lorakit.study.contrast import better, digits, figure, mean_of, metric, scored, seeds_of
from lorakit.study.figures import Axis, Series, lines
from lorakit.study.kinds import Record, Setting, Shown
from lorakit.study.runs import Runs
from lorakit.study.table import Column, Table

# WikiSQL, accuracy in percent, by places and rank.
PAPER = {
    "q": {1: 68.8, 2: 69.6, 4: 70.5, 8: 70.4, 64: 70.0},
    "q, v": {1: 73.4, 2: 73.3, 4: 73.7, 8: 73.8, 64: 73.5},
    "q, k, v, o": {1: 74.1, 2: 73.7, 4: 74.0, 8: 74.0, 64: 73.9},
}


class Rank(Runs):
    """LoRA of several ranks at several places."""

    name = "rank"
    title = "Ranks: how large they have to be"
    why = (
        "How small can the rank be before the score falls, and is that another one where more "
        "layers are adapted (Hu et al. 2021, table 6)?"
    )
    grows = ("ranks", "targets", "seeds")

    def options(self, *, quick: bool) -> dict[str, Any]:
        """`targets` are lists of places that are adapted together; alpha is the recipe's."""
        return {
            "ranks": [1, 8] if quick else [1, 2, 4, 8, 64],
            "targets": [["q", "v"]] if quick else [["q"], ["q", "v"], ["q", "k", "v", "o"]],
            "seeds": [0, 1] if quick else [0, 1, 2],
        }

    def settings(self, setting: Setting) -> list[dict[str, Any]]:
        """Every rank at every choice of places."""
        return [
            {"targets": list(targets), "rank": rank}
            for targets in setting.option("targets")
            for rank in setting.option("ranks")
        ]

    def overrides(self, settings: Mapping[str, Any], setting: Setting) -> dict[str, Any]:
        """Rank and places."""
        return {"lora.targets": settings["targets"], "lora.rank": settings["rank"]}

    def show(self, records: Sequence[Record], setting: Setting) -> Shown:
        """A row for each choice of places, a column for each rank, as the paper has it."""
        cells: dict[tuple[str, int], list[Record]] = {}
        for own in records:
            key = (", ".join(own.settings["targets"]), own.settings["rank"])
            cells.setdefault(key, []).append(own)
        places = list(dict.fromkeys(place for place, _ in cells))
        ranks = sorted({rank for _, rank in cells})
        scores = {key: scored(own) for key, own in cells.items()}
        unit = metric(records)
        columns = [
            Column("places"),
            *(Column(f"r = {rank}", digits=digits(records)) for rank in ranks),
        ]
        rows = [[place, *(scores.get((place, rank)) for rank in ranks)] for place in places]
        notes = [
            f"{unit[0].upper()}{unit[1:]}: {seeds_of(cells)}. Alpha is the same at every rank, "
            f"and {'more' if better(records) else 'less'} is better.",
        ]
        tables = [
            Table("rank", f"{unit[0].upper()}{unit[1:]}, by rank and places", columns, rows, notes)
        ]
        tables += _quoted(places, ranks)
        return Shown(
            _findings(cells, scores, places, ranks), tables, [_curves(scores, places, ranks, unit)]
        )


def _quoted(places: Sequence[str], ranks: Sequence[int]) -> list[Table]:
    known = [place for place in places if place in PAPER]
    shared = [rank for rank in ranks if rank in PAPER["q"]]
    if not known or not shared:
        return []
    columns = [Column("places"), *(Column(f"r = {rank}", digits=1, quoted=True) for rank in shared)]
    rows = [[place, *(PAPER[place][rank] for rank in shared)] for place in known]
    notes = ["GPT-3 175B on WikiSQL, accuracy in percent (Hu et al. 2021, table 6)."]
    return [Table("paper", "What the paper reports", columns, rows, notes)]


def _findings(
    cells: dict[tuple[str, int], list[Record]], scores: dict[tuple[str, int], Any],
    places: Sequence[str], ranks: Sequence[int],
) -> list[str]:  # fmt: skip
    found = []
    for place in places:
        here = {rank: scores[place, rank] for rank in ranks if (place, rank) in scores}
        sign = 1 if better(next(iter(cells.values()))) else -1
        best = max(here, key=lambda rank: sign * here[rank].mean)
        top = here[best]
        some = cells[place, best]
        said = f"{place}: best at rank {best} ({figure(top.mean, some)}"
        if top.low is None:
            found.append(f"{said}, a single seed).")
            continue
        # The smallest rank whose interval reaches the best one's mean.
        enough = min(
            rank for rank, own in here.items()
            if rank == best or (own.low is not None and own.low <= top.mean <= own.high)
        )  # fmt: skip
        size = mean_of(cells[place, enough], "parameters")
        found.append(
            f"{said}); the smallest rank whose interval reaches that is {enough} "
            f"({figure(here[enough].mean, some)}, {size:,.0f} parameters)."
        )
    return found


def _curves(
    scores: dict[tuple[str, int], Any], places: Sequence[str], ranks: Sequence[int], unit: str
) -> Any:
    series = [Series.of(place, [scores.get((place, rank)) for rank in ranks]) for place in places]
    caption = f"{unit[0].upper()}{unit[1:]} over the rank, with 95 % intervals over seeds."
    return lines("rank", caption, (Axis("rank", log=True), ranks), Axis(unit), series)
