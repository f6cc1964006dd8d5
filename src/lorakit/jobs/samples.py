"""What a run would write by now: answers from its newest whole checkpoint, while it goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorakit.core.errors import AdapterFileError, QueueError, RecipeError
from lorakit.jobs.history import Run, run_at
from lorakit.train.checkpoint import damage, newest, step_of
from lorakit.train.folder import ADAPTER, CHECKPOINTS
from lorakit.train.recipe import ENDED

WRITING = ("chat", "completion", "seq2seq", "text")
TRIES = 3  # checkpoints that are deleted while they are read


@dataclass(frozen=True)
class Samples:
    """Answers to prompts, in their order, after so many steps; None is the run's last adapter."""

    step: int | None
    prompts: list[str]
    answers: list[str]


def sample(
    run: str | Path, prompts: Sequence[str], *, max_new_tokens: int = 64, device: str = "auto"
) -> Samples:
    """Answer prompts greedily with what a run has learned so far, without disturbing it.

    The base is loaded once more, into this process: where memory is short, wait until the run has
    ended. Raises `QueueError` where no checkpoint is whole yet, `RecipeError` for runs whose models
    write no text.
    """
    found = run_at(run)
    task = found.recipe["task"]
    if task not in WRITING:
        raise RecipeError(
            f"{found.name} learns {task}, and such a model writes no text. Ask it with lorakit "
            "predict when it has ended."
        )
    tries = TRIES
    while True:
        tries -= 1
        step, folder = _place(found)
        try:
            answers = _ask(found, folder, prompts, max_new_tokens, device)
        except (AdapterFileError, FileNotFoundError):
            # The run goes on, and deletes checkpoints when it has written newer ones.
            if not tries or damage(folder) is None:
                raise
        else:
            return Samples(step, list(prompts), answers)


def _place(run: Run) -> tuple[int | None, Path]:
    if run.state == "done":
        return None, run.folder / ADAPTER
    folder, _ = newest(run.folder / CHECKPOINTS)
    if folder is None:
        raise QueueError(
            f"{run.name} has no whole checkpoint yet. Wait until it has saved one: see "
            "train.save_every."
        )
    return step_of(folder), folder


def _ask(
    run: Run, folder: Path, prompts: Sequence[str], max_new_tokens: int, device: str
) -> list[str]:
    from lorakit.eval.generate import ask
    from lorakit.eval.session import open_session

    recipe = run.recipe
    session = open_session(
        [str(folder)], model=recipe["model"], kind="seq2seq" if recipe["task"] == "seq2seq" else
        "causal", precision=recipe["train"]["precision"], quantise=recipe["train"]["quantise"],
        device=device,
    )  # fmt: skip
    (voice,) = session.voices
    # A checkpoint is an adapter and no more: what the run's last folder says, is said here.
    session.runs[voice] = {"recipe": recipe, "end": _end(recipe, session)}
    found = ask(session, prompts, max_new_tokens=max_new_tokens)
    return [entry["answers"][voice] for entry in found]


def _end(recipe: dict[str, Any], session: Any) -> str | None:
    """The token that ends the run's texts, as its training chose it."""
    from lorakit.models.ending import learnable_end

    end = recipe["data"]["end"]
    if end is None and recipe["task"] in ENDED:
        return learnable_end(session.model, session.tokenizer)[0]
    return end
