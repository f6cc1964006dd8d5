"""The scores of runs as tables have them, and the tests between runs of the same seeds."""

from __future__ import annotations

import statistics
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, TypeVar

from lorakit.study.kinds import Record
from lorakit.study.ledger import key_of
from lorakit.study.statistics import ENOUGH, Interval, Paired, holm, interval, paired

SEED = "seed"
SHARES = (
    "eval_accuracy", "eval_matthews", "eval_pearson", "eval_f1", "eval_f1_macro", "eval_spearman",
)  # fmt: skip
_WORDS = {"eval_loss": ("evaluation loss", "nats per token")}
Key = TypeVar("Key", bound=Hashable)
Tested = tuple[Paired, float | None]  # a comparison, and its p corrected for all of them


def varied(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings without the seed."""
    return {name: value for name, value in settings.items() if name != SEED}


def by_setting(records: Sequence[Record]) -> dict[str, list[Record]]:
    """The seeds of each setting, by its key, in order."""
    found: dict[str, list[Record]] = {}
    for own in records:
        found.setdefault(key_of(varied(own.settings)), []).append(own)
    return found


def score(record: Record) -> float:
    """The score as tables have it: shares times 100."""
    return record.figures["score"] * (100 if record.figures["metric"] in SHARES else 1)


def scored(records: Sequence[Record]) -> Interval:
    """The mean score over seeds with its interval."""
    return interval([score(own) for own in records])


def better(records: Sequence[Record]) -> bool:
    """Whether more of the score is better."""
    return bool(records[0].figures["more_is_better"])


def metric(records: Sequence[Record]) -> str:
    """The score's name for headings and axes, with its unit."""
    name, unit = named(str(records[0].figures["metric"]))
    return f"{name} ({unit})" if unit else name


def named(name: str) -> tuple[str, str]:
    """A metric in words, and its unit."""
    plain = name.removeprefix("eval_").replace("_", " ")
    return _WORDS.get(name, (plain, "%" if name in SHARES else ""))


def digits(records: Sequence[Record]) -> int | None:
    """Decimals of a score in tables: one of shares, three of losses, else as intervals have it."""
    name = records[0].figures["metric"]
    return 1 if name in SHARES else 3 if name == "eval_loss" else None


def figure(value: float, records: Sequence[Record]) -> str:
    """A score in a sentence, with the digits that its metric has."""
    share = records[0].figures["metric"] in SHARES
    return f"{value:.1f}" if share else f"{value:.4g}"


def mean_of(records: Sequence[Record], name: str) -> float:
    """The mean of a figure over seeds."""
    return statistics.fmean(own.figures[name] for own in records)


def seeds_of(cells: Mapping[Any, Sequence[Record]]) -> str:
    """How many seeds a table's cells have, in words."""
    counts = sorted({len(own) for own in cells.values()})
    if counts == [1]:
        return "a single seed, so that there are no intervals"
    many = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    how = "Student's t" if counts[-1] < ENOUGH else "a bootstrap"
    return f"means over {many} seeds with 95 % intervals ({how})"


def compared(
    pairs: Mapping[Key, tuple[Sequence[Record], Sequence[Record]]],
) -> dict[Key, Tested]:
    """How much better the first of each two is than the second, over what both have measured.

    Runs are paired by task and seed, and above 0 is better whatever the metric. P-values are
    corrected for the number of comparisons (Holm); what has no pair in common is left out.
    """
    found: dict[Key, Paired] = {}
    for key, (first, second) in pairs.items():
        have = {_pair(own): own for own in second}
        both = [(own, have[_pair(own)]) for own in first if _pair(own) in have]
        if both:
            found[key] = paired(
                [_signed(one) for one, _ in both], [_signed(two) for _, two in both]
            )
    tested = {key: own.p for key, own in found.items() if own.p is not None}
    corrected = dict(zip(tested, holm(list(tested.values()))))
    return {key: (own, corrected.get(key)) for key, own in found.items()}


def weak(tests: Mapping[Any, Tested]) -> str:
    """A sentence on how small p can be with so few pairs; none where 5 % can be reached."""
    most = max((own.difference.n for own, _ in tests.values()), default=0)
    least = 2 / 2**most if most > 1 else 1.0
    if not tests or least * len(tests) < 0.05:
        return ""
    if most < 2:
        return "One pair has no p. More seeds have."
    return (
        f"{most} pairs give no p below {least:.2g}, before any correction, however large the "
        "difference; more seeds can."
    )


def _pair(record: Record) -> tuple[Any, int]:
    return record.settings.get("task"), record.settings[SEED]


def _signed(record: Record) -> float:
    return score(record) if record.figures["more_is_better"] else -score(record)
