"""Slices of fused projections: the outputs of one matrix that are the query, key, value, ...

A slice is a target of its own, written `path:part` (`h.0.attn.c_attn:q`). Its B has a row for each
of its outputs; the update is that of the whole layer with zeros in all other rows of B. Which
outputs are whose is no property of the shapes, so it stands here, family by family.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lorakit.core.errors import PlanError, shortlist
from lorakit.core.plan import split_target

Slices = dict[str, Tensor]  # part -> indices of the layer's outputs


def slices_of(root: nn.Module, path: str) -> Slices:
    """The named parts of a layer's outputs; empty where the layer is not known to be fused."""
    above, _, leaf = path.rpartition(".")
    parent = root.get_submodule(above)
    parts = type(parent).__module__.split(".")
    family = parts[2] if parts[:2] == ["transformers", "models"] else ""
    rule = _RULES.get((family, leaf))
    return rule(parent, _outputs(root.get_submodule(path))) if rule else {}


def outputs_of(root: nn.Module, target: str) -> Tensor | None:
    """The outputs that a target means, or None for all of its layer's; `PlanError` if unknown."""
    path, part = split_target(target)
    if not part:
        return None
    known = slices_of(root, path)
    if part not in known:
        have = f"its parts are {shortlist(known)}" if known else "it has no parts that are known"
        raise PlanError(f"{target!r}: {path!r} has no part {part!r}; {have}. Name the whole layer.")
    return known[part]


def _outputs(layer: nn.Module) -> int:
    known: Any = layer  # by its attributes: a quantised weight has another shape
    return known.nf if type(layer).__name__ == "Conv1D" else known.out_features


def _blocks(names: Sequence[str], sizes: Sequence[int]) -> Slices:
    """One part after the other."""
    return dict(zip(names, torch.arange(sum(sizes)).split(list(sizes)), strict=True))


def _thirds(parent: Any, outputs: int) -> Slices:
    names = "kv" if getattr(parent, "is_cross_attention", False) else "qkv"
    return _blocks(names, [outputs // len(names)] * len(names))


def _halves(_: Any, outputs: int) -> Slices:
    return _blocks(("gate", "up"), [outputs // 2] * 2)


def _by_head(heads: str) -> Callable[[Any, int], Slices]:
    """Query, key and value of each head next to each other."""

    def rule(parent: Any, outputs: int) -> Slices:
        count = parent
        for name in heads.split("."):
            count = getattr(count, name)
        index = torch.arange(outputs).view(count, 3, -1)
        return {part: index[:, place].flatten() for place, part in enumerate("qkv")}

    return rule


def _grouped(parent: Any, outputs: int) -> Slices:
    """All queries, then the fewer keys, then the values."""
    queries = parent.config.num_attention_heads * parent.head_dim
    return _blocks("qkv", [queries, (outputs - queries) // 2, (outputs - queries) // 2])


def _multi_query(parent: Any, outputs: int) -> Slices:
    if parent.is_cross_attention:
        return _thirds(parent, outputs)
    if parent.multi_query:
        return _blocks("qkv", [parent.embed_dim, parent.kv_dim, parent.kv_dim])
    return _by_head("num_heads")(parent, outputs)


def _falcon(parent: Any, outputs: int) -> Slices:
    """Groups of queries, each with its key and value; or all queries before one key and value."""
    width = parent.head_dim
    if parent.new_decoder_architecture:
        each = parent.num_heads // parent.num_kv_heads
        index = torch.arange(outputs).view(-1, each + 2, width)
        parts = {"q": index[:, :-2], "k": index[:, -2], "v": index[:, -1]}
        return {part: rows.flatten() for part, rows in parts.items()}
    if parent.multi_query:
        return _blocks("qkv", [outputs - 2 * width, width, width])
    return _by_head("num_heads")(parent, outputs)


_RULES: dict[tuple[str, str], Callable[[Any, int], Slices]] = {
    ("gpt2", "c_attn"): _thirds,
    ("decision_transformer", "c_attn"): _thirds,
    ("imagegpt", "c_attn"): _thirds,
    ("mpt", "Wqkv"): _thirds,
    ("modernbert", "Wqkv"): _thirds,
    ("gpt_bigcode", "c_attn"): _multi_query,
    ("falcon", "query_key_value"): _falcon,
    ("gpt_neox", "query_key_value"): _by_head("config.num_attention_heads"),
    ("gpt_neox_japanese", "query_key_value"): _by_head("num_attention_heads"),
    ("bloom", "query_key_value"): _by_head("num_heads"),
    ("persimmon", "query_key_value"): _by_head("num_heads"),
    ("phi3", "qkv_proj"): _grouped,
    ("phi3", "gate_up_proj"): _halves,
    ("glm", "gate_up_proj"): _halves,
    ("glm4", "gate_up_proj"): _halves,
}
