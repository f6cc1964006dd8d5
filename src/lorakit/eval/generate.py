"""Generation: batches of prompts of similar length, greedy, sampled or by beams."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import LogitsProcessorList, NoRepeatNGramLogitsProcessor

from lorakit.core.errors import RecipeError
from lorakit.eval.batches import Names, asked, grouped
from lorakit.eval.session import Session
from lorakit.models.ending import check_end
from lorakit.models.places import places_of
from lorakit.tasks.base import ending, last_of, plain_ids, prompt_ids
from lorakit.tasks.benchmarks import benchmark_named
from lorakit.tasks.chat import render, turn_end, with_template
from lorakit.tasks.templates import check_template

# Bases bring ways of writing of their own, which would change what is measured without a word.
NEUTRAL = {
    "repetition_penalty": 1.0, "no_repeat_ngram_size": 0, "encoder_no_repeat_ngram_size": 0,
    "min_length": 0, "min_new_tokens": 0,
}  # fmt: skip


@dataclass(frozen=True)
class Decoding:
    """How answers are written: greedily, sampled, or as the best of several beams.

    Temperature 0 takes the likeliest token, any other draws from all of them. An answer ends before
    the token `end`, by default the tokenizer's own, and before the text `stop`. Prompts that are
    `whole`, as a chat template makes them, get no special tokens. `length_penalty` and
    `no_repeat_ngram` are those of the LoRA paper's Table 11 (10 beams, 0.9 and 4 on E2E); the
    latter looks at the answer alone.
    """

    max_new_tokens: int = 64
    temperature: float = 0.0
    seed: int = 0
    beams: int = 1
    length_penalty: float = 1.0
    no_repeat_ngram: int = 0
    end: str | None = None
    stop: str = ""
    whole: bool = False

    def __post_init__(self) -> None:
        """Raise `RecipeError` for numbers with which nothing can be written."""
        for name, least, most in (
            ("max_new_tokens", 1, 2**31), ("temperature", 0, 1e6), ("seed", 0, 2**63 - 1),
        ):  # fmt: skip
            value = getattr(self, name)
            if not least <= value <= most:  # so also for what is no number
                raise RecipeError(f"{name} is {value:g}; expected {least} or more.")

    def arguments(self, tokenizer: Any) -> dict[str, Any]:
        """The arguments of transformers' `generate`, or `RecipeError`."""
        if self.beams > 1 and self.temperature > 0:
            raise RecipeError(
                f"{self.beams} beams and temperature {self.temperature:g}: beams look for the "
                "likeliest answer, a temperature draws one. Set one of them."
            )
        found: dict[str, Any] = {
            "do_sample": self.temperature > 0, "max_new_tokens": self.max_new_tokens,
            "num_beams": self.beams, "eos_token_id": tokenizer.eos_token_id, **NEUTRAL,
        }  # fmt: skip
        if self.end is not None:
            check_end(tokenizer, self.end)
            found["eos_token_id"] = tokenizer.convert_tokens_to_ids(self.end)
        if self.stop:
            found |= {"stop_strings": [self.stop], "tokenizer": tokenizer}
        if self.temperature > 0:
            found |= {"temperature": self.temperature, "top_k": 0, "top_p": 1.0}
        if self.beams > 1:
            found["length_penalty"] = self.length_penalty
        return found

    def processors(self, width: int) -> LogitsProcessorList:
        """What forbids tokens of an answer that begins after `width` tokens.

        Transformers' own option counts a decoder's prompt as well, so that an answer could not
        repeat a name that it was asked about.
        """
        if not self.no_repeat_ngram:
            return LogitsProcessorList()
        forbid = NoRepeatNGramLogitsProcessor(self.no_repeat_ngram)
        return LogitsProcessorList([lambda ids, scores: forbid(ids[:, width:], scores)])  # pyright: ignore[reportArgumentType]


def generate(
    model: Any, tokenizer: Any, prompts: Sequence[str], *, adapters: Sequence[str] = (),
    max_new_tokens: int = 64, temperature: float = 0.0, seed: int = 0, batch_size: int = 16,
    end: str | None = None, stop: str = "", whole: bool = False,
) -> list[str]:  # fmt: skip
    """What the model writes after each prompt, with the named adapters, or as the bare base.

    Prompts are texts as the model is to see them; the rest is as in `Decoding`.
    """
    decoding = Decoding(max_new_tokens, temperature, seed, end=end, stop=stop, whole=whole)
    found = [""] * len(prompts)
    for batch in write(
        model, tokenizer, prompts, decoding, adapters=adapters, batch_size=batch_size
    ):
        for place, answer in batch:
            found[place] = answer
    return found


def write(
    model: Any, tokenizer: Any, prompts: Sequence[str], decoding: Decoding, *,
    adapters: Names = None, batch_size: int = 16,
) -> Iterator[list[tuple[int, str]]]:  # fmt: skip
    """(place of the prompt, answer) of each batch as soon as it is written, the longest first.

    Of a prompt that leaves no room for its answer a decoder loses the beginning, as in training,
    and an encoder the end.
    """
    options = decoding.arguments(tokenizer)
    ids = _prompt_ids(model, tokenizer, prompts, decoding)
    torch.manual_seed(decoding.seed)
    for places in grouped([len(own) for own in ids], batch_size):
        inputs, width = _padded(model, tokenizer, [ids[place] for place in places])
        with asked(model, adapters):
            written = model.generate(
                **inputs, pad_token_id=tokenizer.pad_token_id, use_cache=True,
                logits_processor=decoding.processors(width), **options,
            )  # fmt: skip
        fresh = [before_end(own, options["eos_token_id"], int(not width)) for own in
                 written[:, width:]]  # fmt: skip
        texts = tokenizer.batch_decode(fresh, skip_special_tokens=True)
        stop = decoding.stop
        yield [(p, t.partition(stop)[0] if stop else t) for p, t in zip(places, texts)]


def before_end(ids: torch.Tensor, end: int | None, begin: int = 0) -> torch.Tensor:
    """The ids (tokens,) before the end token, special or not, which is looked for from `begin`."""
    if end is None:
        return ids
    places = (ids[begin:] == end).nonzero()
    return ids[: begin + int(places[0])] if len(places) else ids


def _room(model: Any, decoding: Decoding) -> int:
    """The most tokens of a prompt: what the model can place, less the answer's."""
    places = places_of(model.config) or 10**9
    room = places - (0 if model.config.is_encoder_decoder else decoding.max_new_tokens)
    if room < 1:
        raise RecipeError(
            f"max_new_tokens is {decoding.max_new_tokens}, but the base can place {places} tokens, "
            "the prompt's included. Ask for fewer."
        )
    return room


def prompt_inputs(
    model: Any, tokenizer: Any, prompts: Sequence[str], decoding: Decoding
) -> tuple[dict[str, torch.Tensor], int]:
    """A batch of prompts as the model takes it, and the width behind which answers begin."""
    return _padded(model, tokenizer, _prompt_ids(model, tokenizer, prompts, decoding))


def _prompt_ids(
    model: Any, tokenizer: Any, prompts: Sequence[str], decoding: Decoding
) -> list[list[int]]:
    room = _room(model, decoding)
    if model.config.is_encoder_decoder:
        return [tokenizer(own, truncation=True, max_length=room)["input_ids"] for own in prompts]
    begun = plain_ids if decoding.whole else prompt_ids
    found = (begun(own, tokenizer) or ending(tokenizer) for own in prompts)
    return [last_of(own, room, tokenizer) for own in found]


def _padded(
    model: Any, tokenizer: Any, ids: list[list[int]]
) -> tuple[dict[str, torch.Tensor], int]:
    """The prompts at the same width, at whose end a decoder writes on; and that width, or 0."""
    left, padding = not model.config.is_encoder_decoder, tokenizer.pad_token_id
    width = max(map(len, ids))
    shorts = [width - len(own) for own in ids]
    fill = [([padding] * n + own) if left else (own + [padding] * n) for own, n in zip(ids, shorts)]
    seen = [
        ([0] * n + [1] * len(own)) if left else ([1] * len(own) + [0] * n)
        for own, n in zip(ids, shorts)
    ]
    found = {"input_ids": torch.tensor(fill), "attention_mask": torch.tensor(seen)}
    return {key: own.to(model.device) for key, own in found.items()}, width if left else 0


def ask(
    session: Session, prompts: Sequence[str], *, raw: bool = False, **options: Any
) -> list[dict[str, Any]]:
    """Every voice's answer to every prompt: [{"prompt": ..., "answers": {voice: text}}].

    Unless `raw`, a prompt goes into the template that an adapter was trained with; the base gets
    it in that of the first adapter, so that the answers can be compared.
    """
    runs = list(session.runs.values())
    found: list[dict[str, Any]] = [{"prompt": prompt, "answers": {}} for prompt in prompts]
    for voice, adapter in session.voices.items():
        run = session.runs.get(voice) or (runs[0] if runs else {})
        recipe, tokenizer = run.get("recipe", {}), session.tokenizer
        chat = recipe.get("task") == "chat" and not raw
        if chat:
            tokenizer = with_template(tokenizer, (recipe.get("data") or {}).get("chat_template"))
        texts = [p if raw else in_template(p, recipe, tokenizer) for p in prompts]
        names = [] if adapter is None else [adapter]
        answers = generate(
            session.model, tokenizer, texts, adapters=names, end=run.get("end"),
            stop=turn_end(tokenizer) if chat else "", whole=chat, **options,
        )  # fmt: skip
        for entry, answer in zip(found, answers):
            entry["answers"][voice] = answer.strip()
    return found


def in_template(prompt: str, recipe: dict[str, Any], tokenizer: Any) -> str:
    """The prompt as the recipe's training saw prompts."""
    data = recipe.get("data") or {}
    if recipe.get("task") == "chat":
        tokenizer = with_template(tokenizer, data.get("chat_template"))
        return render([{"role": "user", "content": prompt}], tokenizer, generation=True)
    template = data.get("prompt")
    if not template and data.get("benchmark"):
        template = benchmark_named(data["benchmark"]).sets.get("prompt")
    if not template:
        return prompt
    names = check_template(template, "The adapter's data.prompt")
    if len(names) != 1:
        raise RecipeError(
            f"The adapter was trained on prompts with the fields {', '.join(names)}. Write the "
            "whole prompt as the model is to see it, and pass --raw."
        )
    before, _, after = template.partition("{" + names[0] + "}")
    return (
        before.replace("{{", "{").replace("}}", "}")
        + prompt
        + after.replace("{{", "{").replace("}}", "}")
    )
