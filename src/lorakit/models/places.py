"""How many tokens a base can place."""

from __future__ import annotations

from typing import Any

# Families that count positions from behind the padding token's number, as RoBERTa does.
_BEHIND_PADDING = frozenset((
    "roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod", "camembert",
    "data2vec-text", "ibert", "longformer", "luke", "mpnet",
))  # fmt: skip


def places_of(config: Any) -> int | None:
    """The most tokens of a text, or None where positions have no table."""
    places = getattr(config, "max_position_embeddings", None)
    if not isinstance(places, int) or places <= 0:
        return None
    behind = config.model_type in _BEHIND_PADDING
    return places - ((config.pad_token_id or 0) + 1 if behind else 0)
