"""What only the base says of its attention: its family, its heads, and the order of their rows.

Rotary embeddings turn pairs of rows of a head. Meta's code pairs row 2 i with 2 i + 1, that of
Hugging Face row i with i + half; so the rows of query and key stand in another order in each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from lorakit.core.errors import AdapterFileError, UnsupportedError, shortlist

Modules = Mapping[str, nn.Module]


@dataclass(frozen=True)
class Base:
    """A base's family (transformers' `model_type`), and the size and numbers of its heads."""

    family: str
    size: int
    queries: int
    groups: int
    tied: bool

    @property
    def blocks(self) -> tuple[int, int, int]:
        """The outputs of query, key and value."""
        return self.queries * self.size, self.groups * self.size, self.groups * self.size


def base_of(modules: Modules | None) -> Base | None:
    """What the config of the base's modules says, or None without one."""
    configs: list[Any] = [getattr(module, "config", None) for module in (modules or {}).values()]
    config = next((c for c in configs if isinstance(getattr(c, "model_type", None), str)), None)
    queries = getattr(config, "num_attention_heads", None)
    if config is None or not isinstance(queries, int):
        return None
    size = getattr(config, "head_dim", None) or config.hidden_size // queries
    groups = getattr(config, "num_key_value_heads", None) or queries
    tied = bool(getattr(config, "tie_word_embeddings", False))
    return Base(config.model_type, size, queries, groups, tied)


def known_base(modules: Modules | None, form: str, families: Mapping[str, Any]) -> Base:
    """The base, of one of the families, or `UnsupportedError`."""
    base = base_of(modules)
    if base is None:
        raise UnsupportedError(
            f"{form} has names and an order of rows for each family of bases, which the adapter "
            "does not say. Pass the base model, model=... or --model; its structure is enough."
        )
    if base.family not in families:
        raise UnsupportedError(
            f"The base is a {base.family!r}; {form} is known here for {shortlist(families, 9)}. "
            "Use peft."
        )
    return base


def to_pairs(rows: Tensor, size: int, path: str) -> Tensor:
    """Rows (heads * size, ...) of query or key in Meta's order, from that of Hugging Face.

    The permutation of torchtune's `hf_to_tune` (models/convert_weights.py), and of llama.cpp's
    `LlamaModel.permute` (conversion/llama.py).
    """
    _check(rows, size, path)
    return rows.reshape(-1, 2, size // 2, *rows.shape[1:]).transpose(1, 2).reshape(rows.shape)


def to_halves(rows: Tensor, size: int, path: str) -> Tensor:
    """What undoes `to_pairs`."""
    _check(rows, size, path)
    return rows.reshape(-1, size // 2, 2, *rows.shape[1:]).transpose(1, 2).reshape(rows.shape)


def to_blocks(rows: Tensor, size: int, path: str) -> Tensor:
    """All queries, then keys, then values, from GPT-NeoX's order of the three for each head."""
    _check(rows, size, path, of_each=3)
    return rows.reshape(-1, 3, size, *rows.shape[1:]).transpose(0, 1).reshape(rows.shape)


def to_heads(rows: Tensor, size: int, path: str) -> Tensor:
    """What undoes `to_blocks`."""
    _check(rows, size, path, of_each=3)
    return rows.reshape(3, -1, size, *rows.shape[1:]).transpose(0, 1).reshape(rows.shape)


def _check(rows: Tensor, size: int, path: str, *, of_each: int = 1) -> None:
    if size < 2 or size % 2 or len(rows) % (size * of_each):
        raise AdapterFileError(
            f"{path!r} has {len(rows)} outputs, which are not {of_each} for each of some heads of "
            f"{size}. The adapter belongs to another base, or is damaged."
        )
