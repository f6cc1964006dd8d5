"""Regret: loss against learning rate and rank, beside full fine-tuning (Schulman et al. 2025)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lorakit.core.errors import RecipeError
from lorakit.study.contrast import better, digits, figure, mean_of, metric, scored, seeds_of
from lorakit.study.figures import Axis, Series, lines
from lorakit.study.kinds import Record, Setting, Shown
from lorakit.study.runs import Runs
from lorakit.study.table import Column, Table

FULL = "full"


class Regret(Runs):
    """Learning rates for LoRA of several ranks, and for full fine-tuning."""

    name = "regret"
    title = "Regret: learning rate and rank against full fine-tuning"
    why = (
        "Is LoRA's best learning rate ten times that of full fine-tuning, whatever its rank, and "
        'at which rank does its capacity run out ("LoRA Without Regret", Schulman et al. 2025)?'
    )
    grows = ("ranks", "rates", "seeds")

    def options(self, *, quick: bool) -> dict[str, Any]:
        """`ranks` of LoRA on the recipe's targets, and learning `rates` for all."""
        half = [1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2]
        return {
            "ranks": [1, 8] if quick else [1, 4, 16, 64],
            "rates": half[1::2] if quick else half, "seeds": [0] if quick else [0, 1],
        }  # fmt: skip

    def settings(self, setting: Setting) -> list[dict[str, Any]]:
        """Full fine-tuning and every rank, at every rate."""
        if any(rate <= 0 for rate in setting.option("rates")):
            raise RecipeError("study.rates has a rate that is not above 0.")
        ways = [FULL, *(f"rank {rank}" for rank in setting.option("ranks"))]
        return [{"way": way, "lr": lr} for way in ways for lr in setting.option("rates")]

    def overrides(self, settings: Mapping[str, Any], setting: Setting) -> dict[str, Any]:
        """The method, its rank, and the learning rate."""
        found: dict[str, Any] = {"train.lr": settings["lr"]}
        if settings["way"] == FULL:
            return {**found, "method": FULL, "lora": {}}
        return {**found, "lora.rank": int(settings["way"].removeprefix("rank "))}

    def show(self, records: Sequence[Record], setting: Setting) -> Shown:
        """The best rate of each way and its score, and the curves."""
        cells: dict[tuple[str, float], list[Record]] = {}
        for own in records:
            cells.setdefault((own.settings["way"], own.settings["lr"]), []).append(own)
        ways = list(dict.fromkeys(way for way, _ in cells))
        rates = sorted({rate for _, rate in cells})
        unit, sign = metric(records), 1 if better(records) else -1
        scores = {key: scored(own) for key, own in cells.items()}
        # First those at which most seeds came to an end: the mean of survivors says little.
        best = {
            way: max(
                (rate for own, rate in cells if own == way),
                key=lambda rate: (len(cells[way, rate]), sign * scores[way, rate].mean),
            )
            for way in ways
        }  # fmt: skip
        tried = setting.option("rates")
        edges = (min(tried), max(tried)) if len(tried) > 1 else ()
        columns = [
            Column("way"), Column("trained parameters", digits=0), Column("best learning rate"),
            Column("over that of full", digits=1), Column(f"there: {unit}", digits=digits(records)),
        ]  # fmt: skip
        rows = [
            [
                way, mean_of(cells[way, best[way]], "parameters"),
                f"{best[way]:g}{' (edge)' * (best[way] in edges)}",
                best[way] / best[FULL] if FULL in best else None, scores[way, best[way]],
            ]
            for way in ways
        ]  # fmt: skip
        told = seeds_of(cells)
        notes = [
            f"{told[0].upper()}{told[1:]}. edge: the best rate is the lowest or highest tried, and "
            "a better one may lie beyond. LoRA's alpha is the recipe's at every rank. The best "
            "rate was chosen by the very rows that the score is of, among those at which no seed "
            "failed, where there are some.",
        ]
        table = Table("regret", "The best learning rate of each way", columns, rows, notes)
        series = [Series.of(way, [scores.get((way, rate)) for rate in rates]) for way in ways]
        caption = (
            "Score over the learning rate, with 95 % intervals over seeds. What is far worse than "
            "the best of each way runs out of the picture."
        )
        picture = lines(
            "regret",
            caption,
            (Axis("learning rate", log=True), rates),
            Axis(unit, span=_span(best, scores, rates)),
            series,
        )
        return Shown(_findings(best, scores, records), [table], [picture])


def _span(
    best: Mapping[str, float], scores: Mapping[Any, Any], rates: Sequence[float]
) -> tuple[float, float] | None:
    """The scores at each way's best rate and the rates beside it, with some room."""
    near = [
        scores[way, rate].mean
        for way, top in best.items()
        for rate in rates[max(0, rates.index(top) - 1) : rates.index(top) + 2]
        if (way, rate) in scores
    ]
    low, high = min(near), max(near)
    room = 0.25 * (high - low)
    return (low - room, high + room) if room else None


def _findings(
    best: Mapping[str, float], scores: Mapping[Any, Any], records: Sequence[Record]
) -> list[str]:
    ranks = [way for way in best if way != FULL]
    if FULL not in best or not ranks:
        return []
    sign = 1 if better(records) else -1
    ratios = ", ".join(f"{best[way] / best[FULL]:.3g} ({way})" for way in ranks)
    mean = {way: scores[way, rate].mean for way, rate in best.items()}
    told = {way: f"{way} ({figure(mean[way], records)})" for way in best}
    reach = [told[way] for way in ranks if sign * (mean[way] - mean[FULL]) >= 0]
    said = f"The best learning rate over that of full fine-tuning: {ratios}."
    if reach:
        return [said, f"In the mean, each at its best rate, {told[FULL]} is reached by "
                f"{', '.join(reach)}."]  # fmt: skip
    near = max(ranks, key=lambda way: sign * mean[way])
    return [said, f"No rank reaches {told[FULL]}, each at its best rate; nearest is {told[near]}."]
