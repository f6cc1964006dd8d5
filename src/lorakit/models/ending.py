"""The token that ends a text: the recipe's, the tokenizer's, or what the base can learn instead."""

from __future__ import annotations

from typing import Any

import torch

from lorakit.core.errors import RecipeError

TWINS = 3  # so many tokens alike are tokens that nobody trained
CHUNK = 4096  # rows that are compared at once
ALIKE = 1e-2  # distance of two rows of the head, relative to their length


def check_end(tokenizer: Any, end: str) -> None:
    """Raise `RecipeError` unless `end` is one token of the tokenizer."""
    if end not in tokenizer.get_vocab():
        known = ", ".join(list(tokenizer.get_added_vocab())[:10])
        raise RecipeError(
            f"data.end: {end!r} is no token of the base's tokenizer. Its special ones are {known}."
        )


def learnable_end(model: Any, tokenizer: Any) -> tuple[str | None, str]:
    """The token to end texts with, and a line that says why it is another than the tokenizer's.

    Tokens whose rows in the output head are alike get equal scores from any hidden state. If the
    end token is one of several such tokens, it was never trained, and no adapter below the head
    can make the model end a text. The start token, with which some bases separate documents, is
    taken instead, if it was trained.
    """
    end, start = tokenizer.eos_token, tokenizer.bos_token
    head = getattr(model, "get_output_embeddings", lambda: None)()
    if end is None or head is None:
        return end, ""
    twins = _twins(head, tokenizer.eos_token_id)
    if twins < TWINS:
        return end, ""
    why = f"the base cannot tell its end token {end!r} from {twins} other tokens"
    if start in (None, end) or _twins(head, tokenizer.bos_token_id) >= TWINS:
        return end, f"{why}: it will not learn to end a text. Choose another with data.end"
    return start, f"{why}, so texts end with {start!r}; data.end chooses another"


@torch.no_grad()
def _twins(head: Any, token: int) -> int:
    """How many other tokens score as this one does, whatever the hidden state."""
    rows = head.weight
    if not 0 <= token < len(rows):
        return 0
    row, found = rows[token].float(), -1  # the token itself is no twin
    for at in range(0, len(rows), CHUNK):  # a copy of a large head would take gigabytes
        part = slice(at, at + CHUNK)
        near = (rows[part].float() - row).norm(dim=1) <= ALIKE * row.norm()
        if getattr(head, "bias", None) is not None:
            near &= (head.bias[part] - head.bias[token]).abs() <= ALIKE
        found += int(near.sum())
    return found
