"""Fused experts in PEFT's folder: what `target_parameters` of the config means.

A is (experts * rank, in), expert by expert; B is (out, rank * experts), rank by rank, the experts
of each next to each other. Of a module's parameters the last one's factors stand under its path,
and each one before it a `base_layer` deeper, in the order in which the module has them.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from lorakit.core.errors import AdapterFileError, UnsupportedError, shortlist
from lorakit.core.plan import split_target
from lorakit.core.state import AdapterState, LowRankState
from lorakit.formats.peft_config import PeftConfig
from lorakit.layers.experts import expert_parameters

Modules = Mapping[str, nn.Module]
_DEEPER = ".base_layer"
_SUFFIXES = {".lora_A.weight": "A", ".lora_B.weight": "B"}
_ORDER = ("gate_up_proj", "gate_proj", "up_proj", "down_proj")  # of transformers' modules


def take(
    tensors: dict[str, Tensor], prefix: str, config: PeftConfig,
    modules: Modules | None, where: str,
) -> dict[str, LowRankState]:  # fmt: skip
    """The experts' factors by target, taken out of a file's tensors. Raises `AdapterFileError`."""
    found: dict[str, dict[int, dict[str, Tensor]]] = {}
    for key in list(tensors) if config.parameters else ():
        suffix = next((suffix for suffix in _SUFFIXES if key.endswith(suffix)), None)
        path = key.removeprefix(prefix).removesuffix(suffix or "")
        module = path
        while module.endswith(_DEEPER):
            module = module.removesuffix(_DEEPER)
        if suffix is None or not key.startswith(prefix) or not config.parameters_of(module):
            continue
        depth = path.count(_DEEPER)
        found.setdefault(module, {}).setdefault(depth, {})[_SUFFIXES[suffix]] = tensors.pop(key)
    missing = [m for m in modules or () if m not in found and _targeted(m, config, modules)]
    if missing:
        raise AdapterFileError(
            f"{where} has no tensors for the experts of {missing[0]!r}, which the config targets. "
            "Fetch or save the adapter again."
        )
    for name in config.parameters:
        if not any(name.rpartition(".")[2] in config.parameters_of(module) for module in found):
            raise UnsupportedError(
                f"{where}: the config targets the parameter {name!r}, and there are no factors for "
                "it. Of bare parameters lorakit knows those of fused experts. Load it with PEFT."
            )
    states: dict[str, LowRankState] = {}
    for module, levels in found.items():
        names = _ordered(module, config.parameters_of(module), modules)
        if sorted(levels) != list(range(len(names))):
            raise AdapterFileError(
                f"{where}: the config targets {', '.join(names)} of {module!r}; the tensors are "
                f"for {len(levels)} of its parameters. Config and tensors are not of one adapter."
            )
        for place, name in enumerate(names):
            pair = levels[len(names) - 1 - place]
            path = f"{module}.{name}"
            states[f"{module}:{name}"] = _state(pair, path, config, where)
    return states


def named(state: AdapterState, prefix: str, modules: Modules | None) -> dict[str, Tensor]:
    """The experts' tensors by PEFT's names, behind a prefix."""
    tensors: dict[str, Tensor] = {}
    for module, names in _by_module(state, modules).items():
        for place, name in enumerate(names):
            low = state.low_rank[f"{module}:{name}"]
            path = prefix + module + _DEEPER * (len(names) - 1 - place)
            tensors[f"{path}.lora_A.weight"] = low.A.flatten(0, 1)
            tensors[f"{path}.lora_B.weight"] = low.B.permute(1, 2, 0).flatten(1)
    return tensors


def parameters(state: AdapterState, modules: Modules | None) -> list[str]:
    """The config's `target_parameters`. Raises `UnsupportedError` where they mean other modules."""
    mine = _by_module(state, modules)
    for path in modules or ():
        like = next((module for module in mine if path.endswith(f".{module}")), None)
        if like is not None and path not in mine:
            raise UnsupportedError(
                f"PEFT knows parameters by the end of their path, and {like!r} is also that of "
                f"{path!r}. Adapt both, or merge the adapter into its base."
            )
    return [f"{module}.{name}" for module, names in mine.items() for name in names]


def plain_name(target: str) -> str:
    """A target as the config's patterns name it: parameters behind a dot."""
    return target.replace(":", ".")


def _by_module(state: AdapterState, modules: Modules | None) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for target, low in state.low_rank.items():
        if low.experts:
            module, name = split_target(target)
            found.setdefault(module, []).append(name)
    return {module: _ordered(module, names, modules) for module, names in found.items()}


def _ordered(module: str, names: list[str], modules: Modules | None) -> list[str]:
    """The parameters in the order in which their module has them."""
    layer = None if modules is None else modules.get(module)
    order = list(_ORDER if layer is None else layer._parameters)
    unknown = [name for name in names if name not in order]
    if unknown and len(names) > 1:
        raise UnsupportedError(
            f"In which order {module!r} has {shortlist(names)}, only the base can tell. Pass the "
            "base model."
        )
    return names if unknown else sorted(names, key=order.index)


def _targeted(module: str, config: PeftConfig, modules: Modules | None) -> bool:
    own = expert_parameters(modules[module]) if modules else []
    return any(name in own for name in config.parameters_of(module))


def _state(pair: dict[str, Tensor], path: str, config: PeftConfig, where: str) -> LowRankState:
    rank, A, B = config.rank_of(path), pair.get("A"), pair.get("B")
    if A is None or B is None or A.dim() != 2 or B.dim() != 2:
        raise AdapterFileError(
            f"{where} lacks a factor of {path!r}, or has one that is no matrix. Fetch or save the "
            "adapter again."
        )
    experts = len(A) // rank
    if not experts or len(A) != experts * rank or B.shape[1] != experts * rank:
        raise AdapterFileError(
            f"{where}: {path!r} has rank {rank}, but A {tuple(A.shape)} and B {tuple(B.shape)}, "
            "which are not as many for each expert. Config and tensors are not of one adapter."
        )
    B = B.unflatten(1, (rank, experts)).permute(2, 0, 1)
    return LowRankState(
        "experts", A.unflatten(0, (experts, rank)), B.contiguous(), config.alpha_of(path)
    )
