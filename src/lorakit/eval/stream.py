"""One answer as it is written, token by token."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from transformers import StoppingCriteria, StoppingCriteriaList, TextIteratorStreamer

from lorakit.core.errors import RecipeError
from lorakit.eval.batches import asked
from lorakit.eval.generate import Decoding, prompt_inputs

_drawing = threading.Lock()


def stream(
    model: Any, tokenizer: Any, prompt: str, decoding: Decoding, *, adapters: Sequence[str] = ()
) -> Iterator[str]:
    """The answer so far, again whenever there is more of it; the last is the whole answer.

    The same tokens as `write` gives for this prompt alone. The model is asked in a thread of its
    own, which ends soon after the iterator is closed. Raises `RecipeError` for beams, which have
    no answer before they end, and what the model raised.
    """
    if decoding.beams > 1:
        raise RecipeError("Beams are no stream: the best is known at the end. Set beams to 1.")
    inputs, width = prompt_inputs(model, tokenizer, [prompt], decoding)
    streamer = TextIteratorStreamer(tokenizer, skip_prompt=width > 0, skip_special_tokens=True)
    left, failed = threading.Event(), []

    def work() -> None:
        try:
            # What is drawn is drawn from torch's one generator: one stream at a time, then.
            with _drawing if decoding.temperature > 0 else nullcontext(), asked(model, adapters):
                torch.manual_seed(decoding.seed)
                model.generate(
                    **inputs, pad_token_id=tokenizer.pad_token_id, use_cache=True,
                    logits_processor=decoding.processors(width), streamer=streamer,
                    stopping_criteria=StoppingCriteriaList([_Left(left)]),
                    **decoding.arguments(tokenizer),
                )  # fmt: skip
        except Exception as error:  # noqa: BLE001 - told to whoever asked, in their thread
            failed.append(error)
            streamer.end()

    thread = threading.Thread(target=work, name="lorakit-stream", daemon=True)
    thread.start()
    text = ""
    try:
        for piece in streamer:
            text += piece
            whole, found, _ = text.partition(decoding.stop) if decoding.stop else (text, "", "")
            yield whole
            if found:
                break
    finally:
        left.set()
        thread.join()
    if failed:
        raise failed[0]


class _Left(StoppingCriteria):
    """Ends an answer that nobody waits for."""

    def __init__(self, left: threading.Event) -> None:
        self.left = left

    def __call__(self, ids: torch.Tensor, scores: torch.Tensor, **options: Any) -> Any:
        return torch.full((len(ids),), self.left.is_set(), device=ids.device)
