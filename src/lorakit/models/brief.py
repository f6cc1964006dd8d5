"""The shortest way to write a plan in a recipe: words for its layers, a number for their ranks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from torch import nn

from lorakit.core.errors import PlanError
from lorakit.core.registry import root_of
from lorakit.models.plan import plan
from lorakit.models.roles import linear_paths, roles_of, words


def brief(model: nn.Module, chosen: Mapping[str, int]) -> tuple[str | list[str], Any]:
    """(targets, rank) by which `plan(model, targets, rank)` gives the same plan.

    Targets are a preset or roles where these mean just the plan's layers, or nearly all linear
    ones, else paths; the rank is the commonest one, with those that differ before it. Raises
    `PlanError` for an empty plan.
    """
    if not chosen:
        raise PlanError("The plan has no layer. Choose at least one.")
    root = root_of(model)
    every = set(linear_paths(root))
    out = every - set(chosen)
    targets = _words(root, set(chosen))
    if targets is None and set(chosen) <= every and len(out) < len(chosen):
        targets = "all-linear"  # and rank 0 for the few that are left out
    targets = targets or list(chosen)
    meant = plan(root, targets)
    odd = {path for path, rank in meant.items() if rank == 1}  # norms, whose rank is their own
    ranks = {path: chosen.get(path, 0) for path in meant if path not in odd}
    if not ranks:
        return targets, 8
    common = Counter(rank for rank in ranks.values() if rank).most_common(1)[0][0]
    others = {path: rank for path, rank in ranks.items() if rank != common}
    return targets, {**others, "*": common} if others else common


def _words(root: nn.Module, chosen: set[str]) -> str | list[str] | None:
    """One word that means just these layers, or several roles that do together."""
    roles = roles_of(root)
    known = words(roles, linear_paths(root))
    exact = [word for word, meant in known.items() if meant == chosen]
    if exact:
        # The most general of the words that mean the same: people know it from the papers.
        return "all-linear" if "all-linear" in exact else exact[0]
    inside = [role for role, paths in roles.items() if set(paths) <= chosen]
    covered = {path for role in inside for path in roles[role]}
    return inside if covered == chosen else None
