"""What a layer is for, by its place, its shape and its name.

The place of a layer and its shape decide where they can; names decide what they cannot, such as
which of three equal projections is the query. A new family needs an entry below only if it gives
its projections names that no other family has.
"""

from __future__ import annotations

from torch import nn

from lorakit.layers import MATRICES, geometry_of
from lorakit.layers.norm import is_norm

# Last parts of module paths, inside of an attention module.
ATTENTION_NAMES = {
    "q": ("q_proj", "query", "q_lin", "query_proj", "q", "q_attn", "wq", "to_q"),
    "k": ("k_proj", "key", "k_lin", "key_proj", "k", "wk", "to_k"),
    "v": ("v_proj", "value", "v_lin", "value_proj", "v", "wv", "to_v"),
    "qkv": ("c_attn", "query_key_value", "qkv_proj", "qkv", "Wqkv"),
    "o": ("o_proj", "out_proj", "dense", "out_lin", "o", "c_proj", "wo", "to_out", "proj"),
}
# Feed-forward layers of blocks whose activation multiplies two products: names of the gate.
GATE_NAMES = ("gate_proj", "wi_0", "w1")
GATE_UP_NAMES = ("gate_up_proj", "gate_up")
UP_NAMES = ("up_proj", "wi_1", "wi", "w3", "fc1", "c_fc", "fc_in")
ROUTER_NAMES = ("gate", "router")


def is_linear(layer: nn.Module) -> bool:
    """Whether the layer is a matrix product with one of the supported types."""
    geometry = geometry_of(layer)
    return geometry is not None and geometry.name in MATRICES


def role_of(path: str, layer: nn.Module) -> str | None:
    """The role of a layer inside of a block, or of a norm; None for any other."""
    if is_norm(layer):
        return "norm"
    geometry = geometry_of(layer)
    if geometry is None or geometry.name not in MATRICES:
        return None
    parts = path.split(".")
    if any("attn" in part.lower() or "attention" in part.lower() for part in parts[:-1]):
        leaf = parts[-2] if parts[-1].isdigit() and len(parts) > 1 else parts[-1]
        return next((role for role, names in ATTENTION_NAMES.items() if leaf in names), None)
    in_block = any(part.isdigit() for part in parts)
    return _mlp_role(parts[-1], *geometry.size(layer)) if in_block else None


def _mlp_role(leaf: str, columns: int, rows: int) -> str | None:
    if leaf in ROUTER_NAMES:
        return None
    if leaf in GATE_UP_NAMES:
        return "gate_up"
    if leaf in GATE_NAMES:
        return "gate"
    if rows == columns:
        return None  # neither widens nor narrows: the shape does not tell
    return "up" if rows > columns else "down"
