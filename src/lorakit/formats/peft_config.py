"""`adapter_config.json` of PEFT: what it must say, and what it must not for LoRA to be right."""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from lorakit.core.errors import AdapterFileError, UnsupportedError, did_you_mean, shortlist
from lorakit.formats.expression import fullmatch

CONFIG = "adapter_config.json"
_PATH = re.compile(r"\^[A-Za-z0-9_.]+")

# Keys of PEFT 0.6 to 0.21 that do not change what a trained adapter computes.
HARMLESS = {
    "auto_mapping", "base_model_name_or_path", "corda_config", "eva_config", "fan_in_fan_out",
    "inference_mode", "loftq_config", "lora_dropout", "lora_ga_config", "megatron_core",
    "merge_weights", "peft_type", "peft_version", "qalora_group_size", "revision",
    "runtime_config", "task_type", "velora_config",
}  # fmt: skip
READ = {
    "alpha_pattern", "bias", "exclude_modules", "init_lora_weights", "layers_pattern",
    "layers_to_transform", "lora_alpha", "modules_to_save", "r", "rank_pattern",
    "target_modules", "target_parameters", "use_dora", "use_rslora",
}  # fmt: skip
# Keys that change the computation and that lorakit cannot follow, with what to call them.
REFUSED = {
    "alora_invocation_tokens": "activated LoRA", "arrow_config": "Arrow routing",
    "ensure_weight_tying": "adapters tied to each other", "kasa_config": "KaSA",
    "layer_replication": "replicated layers", "lora_bias": "a bias on B",
    "megatron_config": "Megatron layers", "monteclora_config": "MonteCLoRA",
    "trainable_token_indices": "token rows",
    "use_bdlora": "block-diagonal LoRA", "use_qalora": "QALoRA",
}  # fmt: skip
# Ways to start A and B that leave the base's weights alone. The others subtract from the base,
# so that the adapter is right only on a base changed in the same way.
STARTS_ON_THE_BASE = (True, False, None, "gaussian", "eva", "orthogonal")


@dataclass(frozen=True)
class PeftConfig:
    """The part of the config that decides what the tensors mean."""

    rank: int
    alpha: float
    rslora: bool
    dora: bool
    dropout: float
    bias: str
    targets: str | tuple[str, ...]
    excluded: str | tuple[str, ...] = ()
    saved: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    rank_pattern: dict[str, int] = field(default_factory=dict)
    alpha_pattern: dict[str, float] = field(default_factory=dict)
    layers: tuple[int, ...] | None = None
    layers_pattern: tuple[str, ...] = ()
    base: str | None = None
    task: str | None = None

    def rank_of(self, path: str) -> int:
        """The rank the config gives the module at `path`."""
        return _by_pattern(self.rank_pattern, path, self.rank)

    def alpha_of(self, path: str) -> float:
        """The alpha the config gives the module at `path`."""
        return _by_pattern(self.alpha_pattern, path, self.alpha)

    def is_target(self, path: str) -> bool:
        """Whether the config names the module at `path`, as PEFT reads `target_modules`."""
        if self.excluded and _named(self.excluded, path):
            return False
        if any(fullmatch(rf"(.*\.)?({name})(\..*)?", path) for name in self.saved):
            return False
        if isinstance(self.targets, str) or path in self.targets or self.layers is None:
            return _named(self.targets, path)
        return _named(self.targets, path) and self._layer(path) in self.layers

    def parameters_of(self, path: str) -> list[str]:
        """The parameters of the module at `path` that `target_parameters` means, by end of name."""
        split = [name.rpartition(".") for name in self.parameters]
        mine = [name for end, _, name in split if path == end or path.endswith(f".{end}")]
        return list(dict.fromkeys(mine))

    def saves(self, path: str) -> bool:
        """Whether `modules_to_save` means the module at `path`: PEFT compares ends of names."""
        return any(path.endswith(end) for end in self.saved)

    def _layer(self, path: str) -> int | None:
        """The first number in the path that PEFT takes for the layer's."""
        parts = path.split(".")
        first = 1 if self.layers_pattern else 2
        for place in range(first, len(parts) - 1):
            named = any(fullmatch(name, parts[place - 1]) for name in self.layers_pattern)
            if parts[place].isdecimal() and (named or not self.layers_pattern):
                return int(parts[place])
        return None


def parse_config(raw: dict[str, Any], where: str) -> PeftConfig:
    """The config, or the error that says what in it is wrong, missing or not supported."""
    kind = raw.get("peft_type")
    if kind != "LORA":
        raise _wrong(where, "peft_type", kind, "'LORA'", UnsupportedError)
    _refuse_unsupported(raw, where)
    pattern = raw.get("layers_pattern") or ()
    layers = raw.get("layers_to_transform") or None  # none of them are all of them, as in PEFT
    return PeftConfig(
        rank=_rank(raw.get("r"), where, "r"),
        alpha=_number(raw.get("lora_alpha"), where, "lora_alpha"),
        rslora=_flag(raw, where, "use_rslora"),
        dora=_flag(raw, where, "use_dora"),
        dropout=_dropout(raw, where),
        bias=_bias(raw, where),
        targets=_names(raw, where, "target_modules"),
        excluded=_names(raw, where, "exclude_modules"),
        saved=_list(raw.get("modules_to_save"), where, "modules_to_save"),
        parameters=_list(raw.get("target_parameters"), where, "target_parameters"),
        rank_pattern={k: _rank(v, where, k) for k, v in _table(raw, where, "rank_pattern")},
        alpha_pattern={k: _number(v, where, k) for k, v in _table(raw, where, "alpha_pattern")},
        layers=None if layers is None else _layers(layers, where),
        layers_pattern=(pattern,)
        if isinstance(pattern, str)
        else _list(pattern or None, where, "layers_pattern"),
        base=_text(raw, where, "base_model_name_or_path"),
        task=_text(raw, where, "task_type"),
    )


def _refuse_unsupported(raw: dict[str, Any], where: str) -> None:
    for key, what in REFUSED.items():
        if raw.get(key):
            raise UnsupportedError(
                f"{where} sets {key} ({what}), which lorakit does not do. Load it with PEFT, or "
                "train the adapter without it."
            )
    start = raw.get("init_lora_weights")
    if not any(start is known or start == known for known in STARTS_ON_THE_BASE):
        raise UnsupportedError(
            f"{where} says init_lora_weights={start!r}: such an adapter belongs to a base that was "
            "changed before training. Save it with PEFT's path_initial_model_for_weight_conversion."
        )
    known = {*HARMLESS, *READ, *REFUSED}
    unknown = [key for key, value in raw.items() if key not in known and value]
    if unknown:
        raise AdapterFileError(
            f"{where} has settings that are not known: {shortlist(unknown)}. What they change "
            f"cannot be told.{did_you_mean(unknown[0], known)} Remove them if they change nothing."
        )


def _by_pattern(table: dict[str, Any], path: str, default: Any) -> Any:
    mine = f"^{re.escape(path)}"
    for pattern, value in table.items():
        # Most patterns are `^` and a path, as PEFT and lorakit write them: no need to compile it.
        if pattern == mine:
            return value
        if _is_literal(pattern):
            continue
        if _PATH.fullmatch(pattern):
            same = len(pattern) == len(path) + 1 and all(
                own in (".", char) for own, char in zip(pattern[1:], path)
            )
            if same:
                return value
        elif pattern == path or fullmatch(rf"(.*\.)?({pattern})", path):
            return value
    return default


@lru_cache(maxsize=4096)
def _is_literal(pattern: str) -> bool:
    r"""Whether a pattern is `^` and one path, with `\.` for each point: as lorakit writes them."""
    return re.fullmatch(r"\^(?:\w|\\\W)+", pattern) is not None and "\\" in pattern


def _named(names: str | Collection[str], path: str) -> bool:
    if isinstance(names, str):
        return fullmatch(names, path)
    return path in names or any(path.endswith(f".{name}") for name in names)


def _wrong(
    where: str, key: str, got: object, expected: str, kind: type[Exception] = AdapterFileError
) -> Exception:
    shown = repr(got) if len(repr(got)) <= 60 else repr(got)[:57] + "..."
    return kind(f"{where}: {key} is {shown}; expected {expected}. Correct it, or save again.")


def _rank(value: object, where: str, key: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise _wrong(where, key, value, "a whole number of at least 1")
    return value


def _number(value: object, where: str, key: str) -> float:
    good = isinstance(value, (int, float)) and not isinstance(value, bool)
    try:
        number = float(value) if good else math.nan  # type: ignore[arg-type]
    except OverflowError:
        number = math.inf
    if not math.isfinite(number) or number == 0:
        raise _wrong(where, key, value, "a finite number other than 0")
    return number


def _flag(raw: dict[str, Any], where: str, key: str) -> bool:
    value = raw.get(key)
    if value is not None and not isinstance(value, bool):
        raise _wrong(where, key, value, "true or false")
    return bool(value)


def _dropout(raw: dict[str, Any], where: str) -> float:
    value = raw.get("lora_dropout") or 0.0
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value < 1:
        raise _wrong(where, "lora_dropout", value, "a number from 0 to below 1")
    return float(value)


def _bias(raw: dict[str, Any], where: str) -> str:
    value = raw.get("bias") or "none"
    if value not in ("none", "lora_only", "all"):
        raise _wrong(where, "bias", value, "'none', 'lora_only' or 'all'")
    return value


def _text(raw: dict[str, Any], where: str, key: str) -> str | None:
    value = raw.get(key)
    if value is not None and not isinstance(value, str):
        raise _wrong(where, key, value, "text")
    return value


def _list(value: object, where: str, key: str) -> tuple[str, ...]:
    listed = [] if value is None else value
    if not isinstance(listed, list) or not all(isinstance(v, str) and v for v in listed):
        raise _wrong(where, key, value, "a list of module names")
    return tuple(listed)


def _names(raw: dict[str, Any], where: str, key: str) -> str | tuple[str, ...]:
    value = raw.get(key)
    if isinstance(value, str):
        if value == "all-linear":  # PEFT replaces the word by names before it saves
            raise _wrong(where, key, value, "the names of modules")
        return value
    return _list(value, where, key)


def _table(raw: dict[str, Any], where: str, key: str) -> list[tuple[str, Any]]:
    value = raw.get(key) or {}
    if not isinstance(value, dict):
        raise _wrong(where, key, value, "an object of pattern to number")
    return list(value.items())


def _layers(value: object, where: str) -> tuple[int, ...]:
    listed = [value] if isinstance(value, int) else value
    good = isinstance(listed, list) and all(
        isinstance(v, int) and not isinstance(v, bool) for v in listed
    )
    if not good:
        raise _wrong(where, "layers_to_transform", value, "a layer's number or a list of them")
    return tuple(listed)  # type: ignore[arg-type]
