"""The PEFT folder, lorakit's native format: what its tensors are called and what they mean.

`adapter_model.safetensors` holds, under `base_model.model.` and the module's path, A (rank, in) and
B (out, rank) for a linear layer, A (rank, in, *kernel) and B (out, rank, 1, ...) for a convolution,
A (rank, vocabulary) and B (width, rank) for an embedding, DoRA's magnitudes, whole biases, and
whole parameters of `modules_to_save`. Alpha stands in the config alone.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

import safetensors.torch
from torch import Tensor, nn

from lorakit.core.errors import AdapterFileError, UnsupportedError, shortlist
from lorakit.core.state import AdapterState, LowRankState
from lorakit.formats import peft_experts
from lorakit.formats.content import Content, Options
from lorakit.formats.files import PICKLE, TENSORS
from lorakit.formats.peft_config import CONFIG, PeftConfig, parse_config
from lorakit.formats.peft_targets import shortest
from lorakit.formats.tensors import read_json, read_tensors

name = "peft"
_PREFIX = "base_model.model."

# Suffix -> (geometry, factor). Linear and Conv1D share one form, which the base's type tells apart;
# convolutions share their names, and have tensors of more axes.
_FACTORS = {
    ".lora_A.weight": ("linear", "A"),
    ".lora_B.weight": ("linear", "B"),
    ".lora_embedding_A": ("embedding", "A"),
    ".lora_embedding_B": ("embedding", "B"),
}
_MAGNITUDES = (".lora_magnitude_vector", ".lora_magnitude_vector.weight")  # the latter until 0.11
_REFUSED = {
    ".lora_B.bias": "a bias on B",
    ".trainable_tokens_delta": "token rows",
}
_INSIDE = ".base_layer."  # a parameter of a layer that is adapted as well
# Tables that PEFT writes whole, beside the updates, when they may have grown with the vocabulary.
_VOCABULARY = ("embed_tokens", "lm_head")


def matches(content: Content) -> bool:
    """Whether a folder with these files is a PEFT adapter."""
    return CONFIG in content.files


def load(
    content: Content, modules: Mapping[str, nn.Module] | None, options: Options
) -> AdapterState:
    """The adapter in a folder. `modules` are the base's modules by path, where they are known.

    Every tensor must be accounted for by the config, and every module that the config targets by
    tensors. Raises `AdapterFileError` or `UnsupportedError`.
    """
    del options
    files, where = content.files, content.where
    config = parse_config(read_json(files[CONFIG], f"{where}/{CONFIG}"), f"{where}/{CONFIG}")
    if TENSORS not in files and not content.tensors:
        pickled = "; its adapter_model.bin is a pickle, which is never read" * (PICKLE in files)
        raise AdapterFileError(
            f"{where} has no {TENSORS}{pickled}. Save the adapter again as safetensors"
            f"{', or convert it' * bool(pickled)}."
        )
    tensors = dict(content.tensors) or read_tensors(files[TENSORS], f"{where}/{TENSORS}")
    state = AdapterState(
        {}, method="dora" if config.dora else "lora", rslora=config.rslora,
        dropout=config.dropout, bias=config.bias,
        base={"name": config.base, "task": config.task},
    )  # fmt: skip
    experts = peft_experts.take(tensors, _PREFIX, config, modules, where)
    _sort(tensors, config, state, where)
    _check_targets(state, config, modules, where, beside=bool(experts))
    state.low_rank.update(experts)
    return state


def save(
    state: AdapterState, modules: Mapping[str, nn.Module] | None, options: Options
) -> dict[str, bytes]:
    """The files of the adapter. With the base's module paths, targets are named as people do."""
    del options
    config = json.dumps(config_of(state, modules), indent=2, sort_keys=True) + "\n"
    packed = safetensors.torch.save(
        named_tensors(state, _PREFIX, modules), metadata={"format": "pt"}
    )
    return {CONFIG: config.encode(), TENSORS: packed}


def named_tensors(
    state: AdapterState, prefix: str, modules: Mapping[str, nn.Module] | None = None
) -> dict[str, Tensor]:
    """The adapter's tensors by PEFT's names, behind a prefix."""
    tensors: dict[str, Tensor] = {}
    tensors.update(peft_experts.named(state, prefix, modules))
    for path, low in state.low_rank.items():
        if low.experts:
            continue
        suffixes = [suffix for suffix, (kind, _) in _FACTORS.items() if kind == _kind(path, low)]
        A, B = low.A, low.B
        if low.kernel:
            A = A.view(low.rank, -1, *low.kernel)
            B = B.view(*B.shape, *[1] * len(low.kernel))
        tensors[prefix + path + suffixes[0]] = A
        tensors[prefix + path + suffixes[1]] = B
        if low.magnitude is not None:
            ones = [1] * len(low.kernel)
            magnitude = low.magnitude.view(1, -1, *ones) if ones else low.magnitude
            tensors[prefix + path + _MAGNITUDES[0]] = magnitude
    for path, values in state.extras.items():
        inside = _INSIDE if path in state.low_rank else "."
        for parameter, value in values.items():
            tensors[f"{prefix}{path}{inside}{parameter}"] = value
    for path, value in state.biases.items():
        inside = _INSIDE if path in state.low_rank else "."
        tensors[f"{prefix}{path}{inside}bias"] = value
    return {key: value.contiguous() for key, value in tensors.items()}


def _kind(path: str, low: LowRankState) -> str:
    leaf = path.rpartition(".")[2].lower()
    if not low.geometry and ("emb" in leaf or leaf in ("wte", "wpe", "shared")):
        raise UnsupportedError(
            f"{path!r} may be an embedding or a linear layer, which PEFT names differently and the "
            "file does not say. Pass the base model."
        )
    return "embedding" if low.geometry == "embedding" else "linear"


def _sort(tensors: dict[str, Tensor], config: PeftConfig, state: AdapterState, where: str) -> None:
    """Put each tensor where it belongs in the state."""
    factors: dict[str, dict[str, Tensor]] = {}
    kinds: dict[str, str] = {}
    rest: dict[str, Tensor] = {}
    for key, value in tensors.items():
        if not key.startswith(_PREFIX):
            raise AdapterFileError(
                f"{where}/{TENSORS} has {key!r}; expected keys that begin with {_PREFIX!r}. It is "
                "not a PEFT adapter: save it as one with the tool that wrote it."
            )
        path = key.removeprefix(_PREFIX)
        _refuse(path, where)
        magnitude = next((suffix for suffix in _MAGNITUDES if path.endswith(suffix)), None)
        if magnitude is not None:
            factors.setdefault(path.removesuffix(magnitude), {})["magnitude"] = value
            continue
        suffix = next((suffix for suffix in _FACTORS if path.endswith(suffix)), None)
        if suffix is None:
            rest[path] = value
            continue
        kind, factor = _FACTORS[suffix]
        target = path.removesuffix(suffix)
        if kinds.setdefault(target, kind) != kind:
            raise AdapterFileError(f"{where}/{TENSORS}: {target!r} is both linear and embedding.")
        factors.setdefault(target, {})[factor] = value
    for target, pair in factors.items():
        state.low_rank[target] = _pair(target, pair, kinds.get(target, ""), config, where)
    for path, value in rest.items():
        _place(path, value, config, state, where)


def _refuse(path: str, where: str) -> None:
    found = next((what for suffix, what in _REFUSED.items() if path.endswith(suffix)), None)
    if found:
        raise UnsupportedError(
            f"{where}/{TENSORS} holds {path!r}: {found} is not supported. Load it with PEFT, or "
            "train the adapter without it."
        )


def _pair(
    target: str, pair: dict[str, Tensor], kind: str, config: PeftConfig, where: str
) -> LowRankState:
    expected = ("A", "B", "magnitude") if config.dora else ("A", "B")
    missing = [factor for factor in expected if factor not in pair]
    if missing:
        raise AdapterFileError(
            f"{where}/{TENSORS} lacks {missing[0]} of {target!r}: the file is not whole. Fetch or "
            "save the adapter again."
        )
    if "magnitude" in pair and not config.dora:
        raise AdapterFileError(
            f"{where}/{TENSORS} has a magnitude for {target!r}, but {CONFIG} does not say "
            "use_dora. Config and tensors are not of one adapter."
        )
    A, B = pair["A"], pair["B"]
    if not A.numel() or not B.numel():
        raise AdapterFileError(
            f"{where}/{TENSORS}: {target!r} has A {tuple(A.shape)} and B {tuple(B.shape)}, one of "
            "which is empty. Fetch or save the adapter again."
        )
    kernel = tuple(A.shape[2:])
    flat = A.dim() == B.dim() in (2, 3, 4, 5) and set(B.shape[2:]) <= {1}
    if not flat or (kernel and kind != "linear"):
        raise UnsupportedError(
            f"{where}/{TENSORS}: {target!r} has A {tuple(A.shape)} and B {tuple(B.shape)}; "
            "supported are two matrices, or those of a convolution, where B has a kernel of one "
            "point. Load this adapter with PEFT."
        )
    if kernel:
        kind = "convolution"
    rank = config.rank_of(target)
    if kernel and A.shape[0] == rank > B.shape[1] and rank % B.shape[1] == 0:
        raise UnsupportedError(
            f"{where}/{TENSORS}: {target!r} is a grouped convolution whose A mixes the channels of "
            "all groups, so that its update is no change of the weight and cannot be merged. Load "
            "this adapter with PEFT, or train it with lorakit, where groups share A."
        )
    if (A.shape[0], B.shape[1]) != (rank, rank):
        raise AdapterFileError(
            f"{where}: {CONFIG} gives {target!r} rank {rank}, but its tensors are A "
            f"{tuple(A.shape)} and B {tuple(B.shape)}. Config and tensors are not of one adapter."
        )
    magnitude = pair["magnitude"].flatten() if config.dora else None
    return LowRankState(
        kind, A.flatten(1), B.flatten(1), config.alpha_of(target), kernel, magnitude=magnitude
    )


def _place(path: str, value: Tensor, config: PeftConfig, state: AdapterState, where: str) -> None:
    """A tensor that is no factor: a bias, or a whole parameter."""
    module, inside, parameter = path.partition(_INSIDE)
    if inside and module in state.low_rank and parameter in ("weight", "bias"):
        if parameter == "bias" and config.bias != "none":
            state.biases[module] = value
            return
        if parameter == "weight":
            _carry(state, module, value)
            return
    parts = path.split(".")
    for end in range(1, len(parts)):
        module = ".".join(parts[:end])
        if config.saves(module):
            state.extras.setdefault(module, {})[".".join(parts[end:])] = value
            return
    module, _, parameter = path.rpartition(".")
    if parameter == "bias" and config.bias == "all":
        state.biases[module] = value
    elif parameter == "weight" and module.rpartition(".")[2] in _VOCABULARY:
        _carry(state, module, value)
    else:
        raise AdapterFileError(
            f"{where}/{TENSORS} has a tensor {path!r} that {CONFIG} does not account for: neither "
            "modules_to_save nor bias names it. Correct the config, or save the adapter again."
        )


def _carry(state: AdapterState, module: str, weight: Tensor) -> None:
    state.extras.setdefault(module, {})["weight"] = weight
    state.origin.setdefault("carried", []).append(module)


def _check_targets(
    state: AdapterState, config: PeftConfig, modules: Collection[str] | None, where: str, *,
    beside: bool = False,
) -> None:  # fmt: skip
    """Targets without tensors are missing; tensors without a target are surplus."""
    if not state.low_rank and not state.extras and not state.biases and not beside:
        raise AdapterFileError(f"{where} holds an adapter of nothing. Save it again.")
    if not config.targets:
        return
    surplus = [path for path in state.low_rank if not config.is_target(path)]
    if surplus:
        raise AdapterFileError(
            f"{where}/{TENSORS} has updates for {shortlist(map(repr, surplus))}, which {CONFIG} "
            "does not target. Config and tensors are not of one adapter."
        )
    missing = [p for p in modules or () if p not in state.low_rank and config.is_target(p)]
    if missing:
        raise AdapterFileError(
            f"{where}/{TENSORS} has no tensors for {shortlist(map(repr, missing))}, which "
            f"{CONFIG} targets: the file is not whole, or made for another base. Fetch or save "
            "the adapter again."
        )


def config_of(state: AdapterState, modules: Mapping[str, nn.Module] | None) -> dict[str, Any]:
    """The keys that readers of PEFT folders look at."""
    named = {peft_experts.plain_name(target): low for target, low in state.low_rank.items()}
    ranks = {path: low.rank for path, low in named.items()}
    alphas = {path: _plain(low.alpha) for path, low in named.items()}
    modules_of = [path for path, low in state.low_rank.items() if not low.experts]
    rank, alpha = _most_common(ranks), _most_common(alphas)
    return {
        "alpha_pattern": {f"^{re.escape(p)}": own for p, own in alphas.items() if own != alpha},
        "auto_mapping": None,
        "base_model_name_or_path": state.base.get("name"),
        "bias": state.bias,
        "fan_in_fan_out": any(low.geometry == "conv1d" for low in state.low_rank.values()),
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": alpha,
        "lora_dropout": state.dropout,
        "modules_to_save": [p for p in state.extras if p not in state.low_rank] or None,
        "peft_type": "LORA",
        "r": rank,
        "rank_pattern": {f"^{re.escape(p)}": own for p, own in ranks.items() if own != rank},
        "target_modules": shortest(modules_of, modules) or None,
        "target_parameters": peft_experts.parameters(state, modules) or None,
        "task_type": state.base.get("task"),
        "use_dora": state.method == "dora",
        "use_rslora": state.rslora,
    }


def _most_common(values: dict[str, Any]) -> Any:
    return Counter(values.values()).most_common(1)[0][0] if values else 1


def _plain(alpha: float) -> float | int:
    return int(alpha) if alpha == int(alpha) else alpha
