"""Stands in for `lorakit train`: the same files and ends, and what it does is its output's name."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path


def main() -> None:
    recipe = Path(sys.argv[1]).read_text()
    output = Path(next(line[8:] for line in recipe.splitlines() if line.startswith("output: ")))
    kind = output.name.partition("-")[0]
    stopped = []
    if kind != "early":
        handler = signal.SIG_IGN if kind == "deaf" else lambda *_: stopped.append(1)
        signal.signal(signal.SIGINT, handler)
    if kind == "refused":
        print("error: This cannot be trained.\nChoose another.".replace("\n", " "), file=sys.stderr)
        sys.exit(2)
    if kind == "crash":
        raise ValueError("a mistake of ours")
    output.mkdir(exist_ok=True)
    with (output / "log.txt").open("a") as log:
        log.write(f"{os.getpid()} {' '.join(sys.argv[2:])}\n")
    end = time.monotonic() + {"quick": 0.0, "short": 1.5}.get(kind, 60.0)
    if kind == "twice" and "--resume" in sys.argv:
        end = 0.0
    step = 0
    while time.monotonic() < end and not stopped:
        step += 1
        event = {"step": step, "steps": 300, "loss": 1 / step, "seconds_left": 9.0}
        with (output / "events.jsonl").open("a") as stream:
            stream.write(json.dumps(event) + "\n")
        time.sleep(0.2)
    if stopped:
        print(f"error: Stopped after step {step}, which is saved.", file=sys.stderr)
        sys.exit(130)
    (output / "metrics.json").write_text("{}")


main()
