"""Roles: what a layer is for, so that "q and v" or "the feed-forward part" can be said once.

The role of a single layer is found in `layers/role.py`; here are those of a whole model.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from lorakit.core.site import walk
from lorakit.layers import geometry_of
from lorakit.layers.experts import expert_parameters
from lorakit.layers.fused import slices_of
from lorakit.layers.role import is_linear, role_of

PRESETS = {
    "attention": ("q", "k", "v", "qkv", "o"),
    "mlp": ("up", "gate", "gate_up", "down"),
    "embeddings": ("embed",),
    "norms": ("norm",),
    "experts": ("expert",),
    # What is popularly called the attention block, feed-forward part and norms with it.
    "block": ("q", "k", "v", "qkv", "o", "up", "gate", "gate_up", "down", "norm"),
}
ROLES = (
    "q",
    "k",
    "v",
    "qkv",
    "o",
    "up",
    "gate",
    "gate_up",
    "down",
    "embed",
    "norm",
    "head",
    "expert",
)


def roles_of(model: nn.Module) -> dict[str, list[str]]:
    """Role -> targets, in the model's order; roles that the model does not have are absent.

    Where query, key and value are one matrix whose layout is known, each role is a part of it.
    """
    heads = head_paths(model)
    tokens = _token_embeddings(model)
    found: dict[str, list[str]] = {}
    for path, layer in walk(model):
        if path in heads:
            role = "head" if geometry_of(layer) is not None else None
        else:
            role = "embed" if path in tokens else role_of(path, layer)
        if role is not None:
            found.setdefault(role, []).append(path)
    experts = [f"{path}:{name}" for path, m in walk(model) for name in expert_parameters(m)]
    if experts:
        found["expert"] = experts
    for path in [*found.get("qkv", ()), *found.get("gate_up", ())]:
        for part in slices_of(model, path):
            found.setdefault(part, []).append(f"{path}:{part}")
    return found


def linear_paths(model: nn.Module) -> list[str]:
    """Every linear layer but the output head."""
    heads = head_paths(model)
    return [path for path, m in walk(model) if is_linear(m) and path not in heads]


def head_paths(model: nn.Module) -> set[str]:
    """The layers after the base: what makes vocabulary or class scores of its last states."""
    paths = {id(module): path for path, module in walk(model)}
    found: set[str] = set()
    output = getattr(model, "get_output_embeddings", lambda: None)()
    if output is not None and id(output) in paths:
        found.add(paths[id(output)])
    base = getattr(model, getattr(model, "base_model_prefix", "") or "", None)
    if isinstance(base, nn.Module) and base is not model:
        inside = {id(module) for module in base.modules()}
        found.update(path for path, m in walk(model) if id(m) not in inside)
    found.discard("")
    return found


def words(roles: dict[str, list[str]], linear: Iterable[str]) -> dict[str, set[str]]:
    """Every preset and role that means something on this model, and the layers it means."""
    known = {role: set(paths) for role, paths in roles.items()}
    for preset, members in PRESETS.items():
        # Of a fused layer a preset means the whole; its parts are there for the asking.
        union = {
            target
            for role in members
            for target in roles.get(role, ())
            if ":" not in target or role == "expert"
        }
        if union:
            known[preset] = union
    known["all-linear"] = set(linear)
    return known


def _token_embeddings(model: nn.Module) -> set[str]:
    """The tables that token ids are looked up in; without a hint from the model, every table."""
    tables = {path: m for path, m in walk(model) if isinstance(m, nn.Embedding)}
    try:
        tokens = getattr(model, "get_input_embeddings", lambda: None)()
    except NotImplementedError:  # transformers' answer for most models of images
        tokens = None
    if isinstance(tokens, nn.Embedding):
        # Encoder-decoders tie one weight into both halves. The table named `shared`, which the
        # model gives as its input embedding, is not called then: an adapter there would be dead.
        tables = {path: m for path, m in tables.items() if m.weight is tokens.weight}
        called = {path for path in tables if path.rpartition(".")[2] != "shared"}
        return called or set(tables)
    return set(tables)
