"""Scores of query and key, turned as Hugging Face does and as Meta does."""

from __future__ import annotations

import torch
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from lorakit.core.state import AdapterState, LowRankState

QUERY, KEY = (f"model.layers.0.self_attn.{leaf}_proj" for leaf in "qk")
LENGTH = 5


def adapter_of_weights(model) -> AdapterState:
    """Changes that are the weights of query and key: A is the identity, B the weight."""
    weights = {path: model.get_submodule(path).weight.detach() for path in (QUERY, KEY)}
    return AdapterState({
        path: LowRankState("linear", torch.eye(w.shape[1]), w, float(w.shape[1]))
        for path, w in weights.items()
    })  # fmt: skip


def heads(model, x, weight):
    return (x @ weight.T).view(1, LENGTH, -1, model.config.head_dim).transpose(1, 2)


def scores(query, key):
    key = key.repeat_interleave(query.shape[1] // key.shape[1], 1)
    return query @ key.transpose(-1, -2)


def scores_by_halves(model, x, query, key):
    """With transformers' own rotary embedding."""
    cos, sin = model.model.rotary_emb(x, torch.arange(LENGTH)[None])
    both = (heads(model, x, weight) for weight in (query, key))
    return scores(*apply_rotary_pos_emb(*both, cos, sin))


def scores_by_pairs(model, x, query, key):
    """Neighbours are the two parts of a complex number, which its place turns."""
    angles = torch.arange(float(LENGTH))[:, None] * model.model.rotary_emb.inv_freq
    turn = torch.polar(torch.ones_like(angles), angles)

    def turned(weight):
        pairs = heads(model, x, weight).unflatten(-1, (-1, 2)).contiguous()
        return torch.view_as_real(torch.view_as_complex(pairs) * turn).flatten(-2)

    return scores(turned(query), turned(key))
