"""Several trainings of one process in turns: each in a thread of its own, one at a time.

They meet whenever all that still run have asked for something, and are answered together. What a
process has only one of (the random states, accelerate's state of accumulation) each has for itself,
so that every one goes as it would alone.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from accelerate.state import GradientState

T = TypeVar("T")
Ask = Callable[[Any], Any]


class _Turns(Generic[T]):
    """One job: it runs between `go` and `back`, and no other thread does meanwhile."""

    def __init__(self, job: Callable[[Ask], T]):
        self.job = job
        self.go, self.back = threading.Semaphore(0), threading.Semaphore(0)
        self.world = _World()
        self.request: Any = None
        self.answer: Any = None
        self.over = False
        self.result: T | Exception | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)

    def switch(self, answer: Any = None) -> None:
        """Let it run until it asks for something or is over."""
        mine = _World()
        self.world.enter()
        self.answer, self.request = answer, None
        if self.thread.ident is None:
            self.thread.start()
        else:
            self.go.release()
        self.back.acquire()
        self.world = _World()
        mine.enter()

    def _run(self) -> None:
        try:
            self.result = self.job(self._ask)
        except Exception as error:  # noqa: BLE001 - given to whoever started the jobs
            self.result = error
        finally:
            self.over = True
            self.back.release()

    def _ask(self, request: Any) -> Any:
        self.request = request
        self.back.release()
        self.go.acquire()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class _World:
    """What one process has one of, as it is now."""

    def __init__(self) -> None:
        self.torch = torch.get_rng_state()
        self.cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
        self.random = random.getstate()
        self.numpy = np.random.get_state()
        self.accumulation = {
            key: list(value) if isinstance(value, list) else value
            for key, value in GradientState._shared_state.items()
        }

    def enter(self) -> None:
        """Make it so again."""
        torch.set_rng_state(self.torch)
        if self.cuda is not None:
            torch.cuda.set_rng_state_all(self.cuda)
        random.setstate(self.random)
        np.random.set_state(self.numpy)
        GradientState._shared_state.clear()
        GradientState._shared_state.update(self.accumulation)


def in_turns(
    jobs: Sequence[Callable[[Ask], T]], meet: Callable[[Mapping[int, Any]], Mapping[int, Any]]
) -> list[T | Exception]:
    """Run every job, given a function by which it asks; `meet` answers all that wait at once.

    A job that raises ends alone; what `meet` raises is raised in every job that waits. Returns what
    each job returned or raised.
    """
    turns = [_Turns(job) for job in jobs]
    answers: Mapping[int, Any] = {}
    waiting = list(range(len(turns)))
    while waiting:
        for number in waiting:
            turns[number].switch(answers.get(number))
        waiting = [number for number in waiting if not turns[number].over]
        requests = {number: turns[number].request for number in waiting}
        try:
            answers = meet(requests) if requests else {}
        except Exception as error:  # noqa: BLE001 - raised again in every job that waits
            answers = dict.fromkeys(waiting, error)
    return [turn.result for turn in turns]  # type: ignore[misc]
