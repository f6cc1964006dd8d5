"""Generation: batches of prompts of similar length, greedy or sampled."""

from __future__ import annotations

from collections.abc import Sequence
from string import Formatter
from typing import Any

import torch

from lorakit.core.activate import use
from lorakit.core.errors import RecipeError
from lorakit.eval.session import Session
from lorakit.models.ending import check_end
from lorakit.tasks.chat import render, set_template, turn_end


def generate(
    model: Any, tokenizer: Any, prompts: Sequence[str], *, adapters: Sequence[str] = (),
    max_new_tokens: int = 64, temperature: float = 0.0, seed: int = 0, batch_size: int = 16,
    end: str | None = None, stop: str = "",
) -> list[str]:  # fmt: skip
    """What the model writes after each prompt, with the named adapters, or as the bare base.

    Prompts are texts as the model is to see them. Temperature 0 takes the likeliest token. An
    answer ends before the token `end`, by default the tokenizer's own, and before the text `stop`.
    """
    order = sorted(range(len(prompts)), key=lambda place: len(prompts[place]))
    answers = [""] * len(prompts)
    torch.manual_seed(seed)
    options: dict[str, Any] = {"do_sample": temperature > 0, "max_new_tokens": max_new_tokens}
    options["eos_token_id"] = tokenizer.eos_token_id
    if end is not None:
        check_end(tokenizer, end)
        options["eos_token_id"] = tokenizer.convert_tokens_to_ids(end)
    if stop:
        options |= {"stop_strings": [stop], "tokenizer": tokenizer}
    if temperature > 0:
        options["temperature"] = temperature
    training, model = model.training, model.eval()
    try:
        with torch.no_grad(), use(model, *adapters):
            for at in range(0, len(order), batch_size):
                places = order[at : at + batch_size]
                texts = [prompts[place] for place in places]
                written = _batch(model, tokenizer, texts, options)
                for place, answer in zip(places, written):
                    answers[place] = answer.partition(stop)[0] if stop else answer
    finally:
        model.train(training)
    return answers


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
        recipe = run.get("recipe", {})
        texts = [p if raw else in_template(p, recipe, session.tokenizer) for p in prompts]
        names = [] if adapter is None else [adapter]
        stop = turn_end(session.tokenizer) if recipe.get("task") == "chat" and not raw else ""
        answers = generate(
            session.model, session.tokenizer, texts, adapters=names, end=run.get("end"), stop=stop,
            **options,
        )  # fmt: skip
        for entry, answer in zip(found, answers):
            entry["answers"][voice] = answer.strip()
    return found


def in_template(prompt: str, recipe: dict[str, Any], tokenizer: Any) -> str:
    """The prompt as the recipe's training saw prompts."""
    data = recipe.get("data") or {}
    if recipe.get("task") == "chat":
        set_template(tokenizer, data.get("chat_template"))
        return render([{"role": "user", "content": prompt}], tokenizer, generation=True)
    template = data.get("prompt")
    if not template:
        return prompt
    names = [name for _, name, _, _ in Formatter().parse(template) if name is not None]
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


def _batch(model: Any, tokenizer: Any, texts: list[str], options: dict[str, Any]) -> list[str]:
    decoder_only = not model.config.is_encoder_decoder
    encoded = tokenizer(
        texts, return_tensors="pt", padding=True, padding_side="left" if decoder_only else "right"
    ).to(model.device)
    encoded.pop("token_type_ids", None)
    written = model.generate(
        **encoded, pad_token_id=tokenizer.pad_token_id, use_cache=True, **options
    )
    fresh = written[:, encoded["input_ids"].shape[1] :] if decoder_only else written
    return tokenizer.batch_decode(fresh, skip_special_tokens=True)
