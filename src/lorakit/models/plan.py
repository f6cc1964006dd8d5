"""`plan`: from words to the layers they mean on this model, and their ranks. Changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from torch import nn

from lorakit.core.errors import PlanError, did_you_mean, shortlist
from lorakit.core.patterns import is_glob, matches
from lorakit.core.plan import Plan, Rank, assign_ranks, split_target
from lorakit.core.registry import root_of
from lorakit.core.site import own_modules
from lorakit.layers import adaptable, require_geometry
from lorakit.layers.experts import expert_parameters
from lorakit.layers.form import Form, check_parts
from lorakit.layers.fused import slices_of
from lorakit.layers.norm import is_norm
from lorakit.models.roles import PRESETS, ROLES, linear_paths, roles_of, words
from lorakit.models.wholes import top_blocks, whole_words

Choice = Callable[[str, nn.Module], object]
Targets = str | Choice | Iterable["str | Choice"]


def plan(model: nn.Module, targets: Targets = "all-linear", rank: Rank = 8) -> Plan:
    """The layers that `targets` means, each with its rank, in the model's order.

    A target is a preset ("attention", "mlp", "norms", "block" for these three, "all-linear",
    "embeddings", "experts"), a role ("q", "o", "up"), a path or its dotted end ("q_proj"), a part
    of a fused layer ("c_attn:q"), a parameter of fused experts ("experts:down_proj"), a glob
    ("*.layers.0-3.*"), or a callable of (path, module) that says yes. Methods other than LoRA have
    words of their own: see `models/wholes.py`. `rank` is one number, or
    pattern -> number where the first match wins and 0 leaves a layer out; a norm has rank 1, whose
    vectors are trained as they are. Raises `PlanError` for a word that means no layer, with the
    nearest names.
    """
    root = root_of(model)
    modules = own_modules(root)
    roles = roles_of(root)
    known = words(roles, linear_paths(root))
    wholes = whole_words(root)
    chosen: set[str] = set()
    as_they_are: set[str] = set()
    for target in [targets] if isinstance(targets, str) or callable(targets) else list(targets):
        whole = _whole(target, wholes, root)
        as_they_are |= whole
        chosen |= whole or _meant(target, modules, known, root)
    if not chosen:
        raise PlanError("targets is empty; name at least one, such as 'all-linear'.")
    place = {path: number for number, path in enumerate(modules)}
    ordered = sorted(chosen, key=lambda target: (place[split_target(target)[0]], target))
    check_parts(ordered)
    norms = {target for target in ordered if target in modules and is_norm(modules[target])}
    for target in ordered:
        if target not in norms and target not in as_they_are:
            Form.of(root, target)
    found = assign_ranks(ordered, rank, {**wholes, **known})
    return Plan({target: 1 if target in norms else own for target, own in found.items()})


def _whole(target: str | Choice, wholes: Mapping[str, set[str]], root: nn.Module) -> set[str]:
    """The modules that a word means which is not about low-rank forms; else nothing."""
    if not isinstance(target, str):
        return set()
    return wholes.get(target) or top_blocks(root, target) or set()


def _meant(
    target: str | Choice, modules: Mapping[str, nn.Module], known: Mapping[str, set[str]],
    root: nn.Module,
) -> set[str]:  # fmt: skip
    able = {path for path, module in modules.items() if adaptable(module)}
    if callable(target):
        hits = {path for path in able if target(path, modules[path])}
        if not hits:
            raise PlanError(f"targets: {target!r} says yes to none of {len(able)} layers.")
        return hits
    if not isinstance(target, str):
        raise PlanError(f"targets: {target!r} is neither text nor callable.")
    if target in known:
        return known[target]
    if ":" in target:
        parts = {f"{path}:{part}" for path in able for part in slices_of(root, path)}
        parts |= {f"{path}:{name}" for path, m in modules.items() for name in expert_parameters(m)}
        hits = {part for part in parts if matches(target, part)}
        if not hits:
            raise PlanError(f"targets: no layer has the part {target!r}.{_parts(parts)}")
        return hits
    every = {path for path in modules if matches(target, path)}
    hits = every & able
    if hits:
        return hits
    fused = next((path for path in sorted(every, key=len) if expert_parameters(modules[path])), "")
    if fused and not is_glob(target):
        Form.of(root, fused)  # raises, and says how its parameters are named
    if every and not is_glob(target):
        path = min(every, key=len)
        require_geometry(modules[path], path)
    raise PlanError(_no_match(target, modules, known, bool(every)))


def _parts(parts: set[str]) -> str:
    ends = sorted({part.rpartition(".")[2] for part in parts})
    return f" Parts here: {shortlist(ends, 12)}." if ends else " No layer here has known parts."


def _no_match(
    target: str, modules: Mapping[str, nn.Module], known: Mapping[str, set[str]], refused: bool
) -> str:
    if refused:
        return f"targets: {target!r} means only modules that have no low-rank form."
    if target in ("q", "k", "v") and "qkv" in known:
        fused = sorted({path.rpartition(".")[2] for path in known["qkv"]})
        return (
            f"targets: this model has no {target!r} of its own: query, key and value are one "
            f"matrix, {shortlist(fused)}, whose layout is not known here. Use 'qkv'."
        )
    leaves = {path.rpartition(".")[2] for path in modules if not path.rpartition(".")[2].isdigit()}
    if target in ROLES or target in PRESETS:
        have = shortlist(sorted(known), 12)
        return f"targets: this model has no {target!r}. It has {have}; or name modules by path."
    hint = did_you_mean(target, [*known, *leaves, *modules])
    return (
        f"targets: {target!r} means no layer of this model.{hint} Presets and roles here: "
        f"{shortlist(sorted(known), 12)}."
    )
