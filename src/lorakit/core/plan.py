"""Plans: which modules of a model get an update, and of what rank."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lorakit.core.errors import PlanError, did_you_mean, shortlist
from lorakit.core.patterns import matches

Rank = int | Mapping[str, int]


class Plan(dict[str, int]):
    """Target -> rank, in the model's order; rank 0 leaves it out.

    A target is a module path, or a path and a named part of the layer's outputs (`c_attn:q`).
    It is a plain dictionary: edit it, or store it as JSON. `inject` takes any mapping like it.
    """

    def __str__(self) -> str:
        width = max((len(target) for target in self), default=0)
        lines = [f"{target:<{width}}  rank {rank}" for target, rank in self.items()]
        return "\n".join(lines) if lines else "an empty plan"


def split_target(target: str) -> tuple[str, str]:
    """A target's module path and the part of its outputs that is meant, "" for all of them."""
    path, _, part = target.partition(":")
    return path, part


def means(pattern: str, target: str) -> bool:
    """Whether a pattern means the target, or the layer that the target is a part of."""
    return matches(pattern, target) or matches(pattern, split_target(target)[0])


def check_rank(rank: object, where: str) -> int:
    """Return `rank` as an int of at least 0, or raise `PlanError`."""
    if isinstance(rank, bool) or not isinstance(rank, int) or rank < 0:
        raise PlanError(f"The rank of {where} is {rank!r}; expected a whole number of at least 1.")
    return rank


def assign_ranks(targets: Iterable[str], rank: Rank, names: Mapping[str, set[str]]) -> Plan:
    """Give each target its rank: one for all, or the first pattern of the mapping that means it.

    `names` tells what words that are no patterns stand for (roles and presets of this model), as
    sets of targets. Raises `PlanError` for a target without a rank and a pattern without a target.
    """
    ordered = list(targets)
    if not isinstance(rank, Mapping):
        return Plan(dict.fromkeys(ordered, _at_least_one(rank, "every target")))
    used: set[str] = set()
    plan = Plan()
    for target in ordered:
        pattern = next((p for p in rank if target in names.get(p, ()) or means(p, target)), None)
        if pattern is None:
            raise PlanError(
                f"No rank for {target!r}: none of {shortlist(map(repr, rank))} means it. "
                "Add a last pattern '*' with the rank of all the rest."
            )
        used.add(pattern)
        plan[target] = check_rank(rank[pattern], repr(pattern))
    unused = [pattern for pattern in rank if pattern not in used]
    # A closing "*" is the rest, which may be empty.
    if unused and unused != ["*"]:
        hint = did_you_mean(unused[0], [*names, *ordered])
        raise PlanError(f"The rank pattern {unused[0]!r} means none of the targets.{hint}")
    return Plan({target: value for target, value in plan.items() if value})


def _at_least_one(rank: object, where: str) -> int:
    if check_rank(rank, where) == 0:
        raise PlanError(f"The rank of {where} is 0; expected at least 1.")
    return int(rank)  # type: ignore[call-overload]
