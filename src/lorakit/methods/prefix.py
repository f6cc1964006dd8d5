"""Prefix tuning: trained keys and values before those of each attention (Li & Liang 2021).

The prefix is put where a cache of earlier tokens would be, so that every query sees it whatever its
position; keys are trained as they act, behind any rotation by position. They are trained without
the reparametrisation of section 4.3, which is not part of the method once training ends.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lorakit.core.errors import UnsupportedError
from lorakit.core.site import module_at
from lorakit.core.update import Call, Inputs, by_name
from lorakit.layers.form import Form
from lorakit.layers.fused import slices_of
from lorakit.layers.role import role_of
from lorakit.methods.method import Baseline, Unmergeable, Updates

# Of the first keys and values. Such keys draw about as much attention as any other: at first the
# prefix takes its share from the text, and gives nothing for it.
_SPREAD = 0.02


class Extended:
    """A cache, or none, whose keys and values have the prefix before them, to one attention."""

    def __init__(self, cache: Any, prefix: Prefix):
        self.cache, self.prefix = cache, prefix

    def update(self, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> tuple:
        """(keys, values) of (batch, heads, tokens, head) to attend to, the new ones kept."""
        if self.cache is not None:
            key, value = self.cache.update(key, value, *args, **kwargs)
        return self.prefix.before(key, self.prefix.keys), self.prefix.before(
            value, self.prefix.values
        )

    def get_seq_length(self, *args: Any) -> int:
        """The tokens that are kept already."""
        return 0 if self.cache is None else self.cache.get_seq_length(*args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.cache, name)


class Prefix(Unmergeable):
    """Keys and values, (tokens, width) each, of one attention."""

    prepares = True

    def __init__(self, tokens: int, width: int, like: Tensor):
        super().__init__()
        self.keys = nn.Parameter(torch.randn(tokens, width).to(like) * _SPREAD)
        self.values = nn.Parameter(torch.randn(tokens, width).to(like) * _SPREAD)

    def prepare(self, layer: nn.Module, args: tuple, kwargs: dict, rows: Tensor | None) -> Inputs:
        given = by_name(layer, args, kwargs)
        cache, mask = given.get("past_key_values"), given.get("attention_mask")
        x = next(value for value in (*args, *kwargs.values()) if isinstance(value, Tensor))
        past = 0 if cache is None else cache.get_seq_length(getattr(layer, "layer_idx", 0))
        given["attention_mask"] = self._mask(layer, mask, x, past, rows)
        given["past_key_values"] = Extended(cache, self)
        return (), given

    def _mask(
        self, layer: nn.Module, mask: Tensor | None, x: Tensor, past: int, rows: Tensor | None
    ) -> Tensor | None:
        """The mask of an attention with a column for each token of the prefix."""
        batch, queries = x.shape[:2]
        if mask is None:
            causal = bool(getattr(layer, "is_causal", False)) and queries > 1
            if rows is None and not causal:
                return None
            seen = torch.ones(queries, past + queries, dtype=torch.bool, device=x.device)
            mask = (seen.tril(past) if causal else seen)[None, None]
        ones: Any = True if mask.dtype == torch.bool else 0.0 if mask.dim() == 4 else 1
        shape = (*mask.shape[:-1], len(self.keys))
        if rows is None:
            return torch.cat([mask.new_full(shape, ones), mask], -1)
        none: Any = False if mask.dtype == torch.bool else torch.finfo(mask.dtype).min
        mask = mask.expand(batch, *mask.shape[1:])
        allowed = mask.new_full((*mask.shape[:-1], len(self.keys)), none)
        return torch.cat([allowed.index_fill(0, rows, ones), mask], -1)

    def before(self, those: Tensor, own: Tensor) -> Tensor:
        """Keys or values (batch, heads, tokens, head) with the trained ones before them."""
        batch, _, _, head = those.shape
        mine = own.to(those.dtype).view(len(own), -1, head).transpose(0, 1)  # (heads, tokens, head)
        return torch.cat([mine.expand(batch, *mine.shape), those], 2)

    def act(self, layer: nn.Module, call: Call, output: Any, rows: Tensor | None) -> Any:
        return output

    def extra_repr(self) -> str:
        tokens, width = self.keys.shape
        return f"tokens={tokens}, width={width}"


@dataclass(frozen=True)
class PrefixTuning(Baseline):
    """The options of prefix tuning; a plan's number is that of tokens before each attention."""

    name: ClassVar[str] = "prefix"
    targets: ClassVar[tuple[str, ...]] = ("attentions",)
    size: ClassVar[str] = "tokens"

    def make(self, root: nn.Module, sizes: Mapping[str, int]) -> Updates:
        """A prefix for each attention. Raises `UnsupportedError` where it takes no cache."""
        found: Updates = {}
        for path, tokens in sizes.items():
            layer = module_at(root, path)
            takes = inspect.signature(type(layer).forward).parameters
            biased = hasattr(layer, "has_relative_attention_bias")
            biased |= bool(getattr(getattr(layer, "config", None), "is_encoder_decoder", False))
            width = _key_width(root, path)
            if not {"past_key_values", "attention_mask"} <= takes.keys() or biased or not width:
                raise UnsupportedError(
                    f"{path!r} is a {type(layer).__name__}: prefixes are for attentions with keys "
                    "of their own that take a cache and a mask, outside of encoder-decoders. Use "
                    "another method for this base."
                )
            like = torch.empty(0, device=next(layer.parameters()).device, dtype=self.dtype)
            found[path] = {"prefix": Prefix(tokens, width, like)}
        return found

    def size_of(self, values: Mapping[str, Tensor]) -> int:
        """The tokens of the prefix."""
        return len(values["keys"])


def _key_width(root: nn.Module, path: str) -> int | None:
    """How wide the keys of an attention are, all heads together."""
    for name, child in module_at(root, path).named_children():
        inner = f"{path}.{name}"
        role = role_of(inner, child)
        if role == "k":
            return Form.of(root, inner).size[1]
        if role == "qkv" and "k" in slices_of(root, inner):
            return Form.of(root, f"{inner}:k").size[1]
    return None
