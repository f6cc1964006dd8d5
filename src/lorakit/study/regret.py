"""Regret: loss against learning rate and rank, beside full fine-tuning (Schulman et al. 2025)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lorakit.core.errors import RecipeError
from lorakit.study.figures import Axis, Series, lines
from lorakit.study.kinds import Record, Setting, Shown
from lorakit.study.runs import Runs, better, mean_of, metric, scored
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
        best = {
            way: max(
                (rate for own, rate in cells if own == way),
                key=lambda rate: sign * scores[way, rate].mean,
            )
            for way in ways
        }  # fmt: skip
        columns = [
            Column("way"), Column("trained parameters", digits=0), Column("best learning rate"),
            Column("over that of full", digits=1), Column(f"{unit} there"),
        ]  # fmt: skip
        rows = [
            [
                way, mean_of(cells[way, best[way]], "parameters"),
                f"{best[way]:g}{' (edge)' * (best[way] in (rates[0], rates[-1]))}",
                best[way] / best[FULL] if FULL in best else None, scores[way, best[way]],
            ]
            for way in ways
        ]  # fmt: skip
        notes = ["edge: the best rate is the lowest or highest tried. Alpha is the recipe's."]
        table = Table("regret", "The best learning rate of each way", columns, rows, notes)
        none = float("nan")
        series = [
            Series(
                way, [scores[way, r].mean if (way, r) in scores else none for r in rates],
                [scores[way, r].low if (way, r) in scores else none for r in rates],
                [scores[way, r].high if (way, r) in scores else none for r in rates],
            )
            for way in ways
        ]  # fmt: skip
        caption = "Score over the learning rate, with 95 % intervals over seeds."
        picture = lines(
            "regret", caption, (Axis("learning rate", log=True), rates), Axis(unit), series
        )
        return Shown(_findings(best, scores, sign), [table], [picture])


def _findings(best: Mapping[str, float], scores: Mapping[Any, Any], sign: int) -> list[str]:
    ranks = [way for way in best if way != FULL]
    if FULL not in best or not ranks:
        return []
    ratios = ", ".join(f"{best[way] / best[FULL]:g} ({way})" for way in ranks)
    full = scores[FULL, best[FULL]]
    reach = [way for way in ranks if sign * (scores[way, best[way]].mean - full.mean) >= 0]
    said = [f"The best learning rate over that of full fine-tuning: {ratios}."]
    if reach:
        said.append(f"LoRA at its best rate reaches full fine-tuning with {', '.join(reach)}.")
    else:
        near = max(ranks, key=lambda way: sign * scores[way, best[way]].mean)
        said.append(
            f"No rank reaches full fine-tuning ({full.mean:.4g}); the nearest is {near} "
            f"({scores[near, best[near]].mean:.4g})."
        )
    return said
