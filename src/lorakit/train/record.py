"""The record of a run: what happens as it happens, in `events.jsonl`, on a bar and in a log."""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from pathlib import Path
from typing import Any, TextIO

import torch
from tqdm import tqdm
from transformers import TrainerCallback

from lorakit.core.folder import write_whole
from lorakit.train.folder import EVENTS, LOG

log = logging.getLogger("lorakit")


class Record(TrainerCallback):
    """Writes one JSON object a step and one an evaluation, and shows a bar on stderr."""

    def __init__(self, run: Path, *, quiet: bool = False):
        self.path = run / EVENTS
        self.quiet = quiet
        self.bar: tqdm | None = None
        self.stream: TextIO | None = None
        self.began = (0.0, 0)  # when training began, and after which step
        self.last = (0.0, 0)  # when the last step ended, and the tokens seen by then
        self.before = 0.0  # seconds of training that earlier starts of the run took

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Go on after the checkpoint's step: what was written past it happens again."""
        keep = [event for event in read_events(self.path) if event["step"] <= state.global_step]
        write_whole(self.path, "".join(json.dumps(event) + "\n" for event in keep).encode())
        self.stream = self.path.open("a", encoding="utf-8")
        self.before = seconds_of(keep)
        self.began = (time.perf_counter(), state.global_step)
        self.last = (self.began[0], state.num_input_tokens_seen)
        terminal = sys.stderr.isatty()
        self.bar = tqdm(
            total=state.max_steps,
            initial=state.global_step,
            unit="step",
            disable=self.quiet,
            dynamic_ncols=True,
            mininterval=0.1 if terminal else 10,
        )

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """One step or one evaluation."""
        if logs is None or ("loss" not in logs and "eval_loss" not in logs):
            return
        event = self._step(state, logs) if "loss" in logs else self._evaluation(state, logs)
        # The file is the history; the Trainer's own copy of it would grow with every checkpoint.
        state.log_history.clear()
        assert self.stream is not None
        self.stream.write(json.dumps(event) + "\n")
        self.stream.flush()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Close the bar and the file."""
        self.close()

    @property
    def seconds(self) -> float:
        """How long the run has trained, in all of its starts."""
        return self.before + time.perf_counter() - self.began[0]

    def close(self) -> None:
        """Close the bar and the file, also when training raised."""
        if self.bar is not None:
            self.bar.close()
        if self.stream is not None:
            self.stream.close()

    def _step(self, state: Any, logs: dict[str, float]) -> dict[str, Any]:
        now, tokens = time.perf_counter(), state.num_input_tokens_seen
        rate = (tokens - self.last[1]) / max(now - self.last[0], 1e-9)
        self.last = (now, tokens)
        assert self.bar is not None
        self.bar.set_postfix({"loss": f"{logs['loss']:.4f}"}, refresh=False)
        self.bar.update()
        pace = (now - self.began[0]) / (state.global_step - self.began[1])
        event = {
            "step": state.global_step,
            "steps": state.max_steps,
            "epoch": round(float(state.epoch or 0), 4),
            "loss": logs["loss"],
            "lr": logs["learning_rate"],
            "grad_norm": logs.get("grad_norm"),
            "tokens_per_second": round(rate, 1),
            "seconds": round(self.seconds, 2),
            "seconds_left": round(pace * (state.max_steps - state.global_step), 1),
        }
        if torch.cuda.is_available():
            event["memory_bytes"] = torch.cuda.max_memory_allocated()
        return event

    def _evaluation(self, state: Any, logs: dict[str, float]) -> dict[str, Any]:
        metrics = {k: v for k, v in logs.items() if k.startswith("eval_") and _is_metric(k)}
        shown = ", ".join(f"{key} {value:.4f}" for key, value in metrics.items())
        log.info("step %d: %s", state.global_step, shown)
        # Time spent here is not the next step's.
        self.last = (time.perf_counter(), state.num_input_tokens_seen)
        return {"step": state.global_step, **metrics}


def read_events(path: Path) -> list[dict[str, Any]]:
    """The events of a run; a line that was cut off by a crash ends them."""
    events: list[dict[str, Any]] = []
    if not path.exists():
        return events
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            break
        events.append(event)
    return events


def seconds_of(events: list[dict[str, Any]]) -> float:
    """How long training had taken by the last of a run's events."""
    return max((event.get("seconds", 0.0) for event in events), default=0.0)


def log_to(run: Path, *, quiet: bool) -> logging.Handler:
    """Send lorakit's log to the run's `log.txt`, and to stderr unless quiet."""
    handler = logging.FileHandler(run / LOG, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    mine = threading.get_ident()  # other runs of this process have threads and logs of their own
    handler.addFilter(lambda record: record.thread in (mine, None))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    if not quiet and not any(isinstance(h, _BarSafe) for h in log.handlers):
        log.addHandler(_BarSafe())
    return handler


class _BarSafe(logging.Handler):
    """Writes lines to stderr without tearing a bar that is drawn there."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr)


def _is_metric(key: str) -> bool:
    ends = ("_runtime", "_per_second", "_model_preparation_time")
    return not key.endswith(ends)
