"""Kill a small run again and again, resume it, and compare the adapter: no bit may differ.

    python scripts/kills.py --kills 30

Each trial starts `lorakit train`, kills it with SIGKILL at a random moment (of a start, a step, an
evaluation or a save), resumes it, and kills it once more in every third trial. The adapter's file
is compared with that of a run that nobody disturbed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lorakit.demo import base_folder
from lorakit.demo.rows import rows

STEPS = 60
# One thread: nothing here is worth two, and a busy machine makes threads wait for each other.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def main() -> int:
    """Run the trials and print a line for each; the exit code says whether all were identical."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        recipe = write_recipe(folder)
        began = time.perf_counter()
        train(recipe, folder / "whole")
        seconds = time.perf_counter() - began
        expected = adapter(folder / "whole")
        print(f"undisturbed: {STEPS} steps in {seconds:.1f} s", flush=True)
        resumed = kills = 0
        while kills < options.kills:
            run = folder / f"trial-{kills}"
            wanted = 2 if kills % 3 == 2 else 1
            moments = [kill(recipe, run, rng.uniform(0, seconds)) for _ in range(wanted)]
            killed = sum(moment is not None for moment in moments)
            kills += killed
            train(recipe, run, "--resume")
            equal = adapter(run) == expected
            resumed += killed > 0
            shown = ", ".join("too late" if m is None else m for m in moments)
            print(f"{'same bits' if equal else 'OTHER BITS'}: killed {shown}", flush=True)
            if not equal:
                return 1
    print(f"{kills} kills, {resumed} resumed runs, all of them bit-identical")
    return 0


def write_recipe(folder: Path) -> Path:
    """A run with everything that has state: dropout, warm-up, evaluations, groups, a best one."""
    for name, count, seed in (("train", 300, 0), ("eval", 24, 1)):
        lines = [
            json.dumps({k: r[k] for k in ("prompt", "completion")}) for r in rows(count, seed=seed)
        ]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    recipe = folder / "recipe.yaml"
    recipe.write_text(
        f"""
model: {base_folder()}
task: completion
data: {{train: {folder}/train.jsonl, eval: {folder}/eval.jsonl}}
lora: {{rank: 4, alpha: 8, targets: attention, dropout: 0.1}}
train: {{steps: {STEPS}, batch_size: 4, accumulate: 2, lr: 2e-3, schedule: cosine, save_every: 3,
        length_groups: true,
        eval_every: 9, device: cpu}}
output: {folder}/unused
"""
    )
    return recipe


def command(recipe: Path, run: Path, *more: str) -> list[str]:
    """The command that a user types."""
    train = [sys.executable, "-m", "lorakit", "train", str(recipe), "--quiet"]
    return [*train, "--output", str(run), *more]


def train(recipe: Path, run: Path, *more: str) -> None:
    """Train to the end."""
    subprocess.run(
        command(recipe, run, *more), check=True, stdout=subprocess.DEVNULL, env=ENVIRONMENT
    )


def kill(recipe: Path, run: Path, after: float) -> str | None:
    """Start (or go on) and kill after so many seconds; say where it was, None if it had ended."""
    more = ["--resume"] if run.exists() else []
    process = subprocess.Popen(
        command(recipe, run, *more), stdout=subprocess.DEVNULL, start_new_session=True,
        env=ENVIRONMENT,
    )  # fmt: skip
    try:
        process.wait(after)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        events = run / "events.jsonl"
        lines = events.read_text().splitlines() if events.exists() else []
        return f"after {after:.1f} s, {len(lines)} events"
    return None


def adapter(run: Path) -> bytes:
    """The tensors of the run's adapter."""
    return (run / "adapter" / "adapter_model.safetensors").read_bytes()


if __name__ == "__main__":
    sys.exit(main())
