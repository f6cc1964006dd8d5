"""Prompt tuning: trained vectors among the embeddings of the input (Lester et al. 2021, section 2).

They stand before the text of a causal model, and behind the first token of an encoder, whose state
is what heads read. What comes out of the trunk for them is left out again, so that heads, labels
and losses know nothing of them.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lorakit.core.errors import UnsupportedError
from lorakit.core.site import module_at, walk
from lorakit.core.update import Call, Inputs, by_name
from lorakit.methods.method import Baseline, Unmergeable, Updates
from lorakit.methods.parallel import Latest

_WHOLE = ("input_ids", "inputs_embeds", "attention_mask", "position_ids", "past_key_values")


class Prompt(Unmergeable):
    """`vectors` (tokens, width), put at `place` among the embeddings of a trunk's input."""

    prepares = True

    def __init__(self, vectors: Tensor, place: int):
        super().__init__()
        self.vectors = nn.Parameter(vectors)
        self.place = place
        self.added = Latest()

    def prepare(self, layer: nn.Module, args: tuple, kwargs: dict, rows: Tensor | None) -> Inputs:
        if rows is not None:
            raise UnsupportedError(
                "A prompt makes the texts of its rows longer, so rows of a mixed batch cannot have "
                "one. Call the model once for each adapter."
            )
        given = by_name(layer, args, kwargs)
        cache, tokens = given.get("past_key_values"), len(self.vectors)
        mask, positions = given.get("attention_mask"), given.get("position_ids")
        first = cache is None or not cache.get_seq_length()
        if mask is not None and mask.dim() != 2:
            raise UnsupportedError(
                f"The mask has {mask.dim()} axes; a prompt is put before texts that have one of "
                "(batch, tokens). Pass such a mask, or use the default cache."
            )
        if mask is not None:
            given["attention_mask"] = self._among(mask, mask.new_ones(len(mask), tokens))
        if positions is not None:
            moved = positions + tokens
            given["position_ids"] = moved if not first else self._positions(positions, moved)
        if first:
            self._put(layer, given, tokens)
        self.added.put(first)
        return (), given

    def _put(self, layer: nn.Module, given: dict[str, Any], tokens: int) -> None:
        embeds = given.get("inputs_embeds")
        if embeds is None:
            embeds = layer.get_input_embeddings()(given["input_ids"])  # type: ignore[operator]
        given["input_ids"] = None
        mine = self.vectors.to(embeds.dtype).expand(len(embeds), -1, -1)
        given["inputs_embeds"] = self._among(embeds, mine)
        types = given.get("token_type_ids")
        if types is not None:
            given["token_type_ids"] = self._among(types, types.new_zeros(len(types), tokens))

    def _positions(self, old: Tensor, moved: Tensor) -> Tensor:
        before = old[:, : self.place]
        own = torch.arange(len(self.vectors), device=old.device) + self.place
        return torch.cat([before, own.expand(len(old), -1), moved[:, self.place :]], 1)

    def _among(self, those: Tensor, mine: Tensor) -> Tensor:
        """Values (batch, tokens, ...) with the prompt's at their place."""
        return torch.cat([those[:, : self.place], mine, those[:, self.place :]], 1)

    def _without(self, states: Tensor) -> Tensor:
        end = self.place + len(self.vectors)
        return torch.cat([states[:, : self.place], states[:, end:]], 1)

    def act(self, layer: nn.Module, call: Call, output: Any, rows: Tensor | None) -> Any:
        if not self.added.take():
            return output
        if isinstance(output, tuple):
            return (self._without(output[0]), *output[1:])
        output.last_hidden_state = self._without(output.last_hidden_state)
        if output.get("hidden_states") is not None:
            output.hidden_states = tuple(map(self._without, output.hidden_states))
        return output

    def extra_repr(self) -> str:
        tokens, width = self.vectors.shape
        return f"tokens={tokens}, width={width}, place={self.place}"


@dataclass(frozen=True)
class PromptTuning(Baseline):
    """The options of prompt tuning; the number of its one target is that of tokens."""

    name: ClassVar[str] = "prompt"
    targets: ClassVar[tuple[str, ...]] = ("trunk",)
    size: ClassVar[str] = "tokens"

    def make(self, root: nn.Module, sizes: Mapping[str, int]) -> Updates:
        """Vectors that start as those of tokens drawn from the vocabulary (section 3.2).

        From all of it: which tokens are common, as the paper's are, a tokenizer does not tell.
        """
        found: Updates = {}
        for path, tokens in sizes.items():
            trunk = module_at(root, path)
            takes = inspect.signature(type(trunk).forward).parameters
            missing = [name for name in _WHOLE if name not in takes]
            double = getattr(getattr(trunk, "config", None), "is_encoder_decoder", False)
            if missing or double or not hasattr(trunk, "get_input_embeddings"):
                raise UnsupportedError(
                    f"{path!r} is a {type(trunk).__name__}: prompts are for the trunk of a causal "
                    "model or of an encoder of transformers, which takes embeddings, mask, "
                    "positions and cache. Use another method for this base."
                )
            table = trunk.get_input_embeddings().weight.detach()  # type: ignore[operator]
            drawn = table[torch.randint(len(table), (tokens,)).to(table.device)]
            causal = any(getattr(module, "is_causal", False) is True for _, module in walk(trunk))
            found[path] = {"prompt": Prompt(drawn.to(self.dtype), 0 if causal else 1)}
        return found

    def size_of(self, values: Mapping[str, Tensor]) -> int:
        """The tokens of the prompt."""
        return len(values["vectors"])
