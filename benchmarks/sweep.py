"""Five seeds as a sweep, and as five lone runs: time, and how far their adapters are apart.

    python benchmarks/sweep.py [--batch 2] [--steps 200] [--seeds 5]
    python benchmarks/sweep.py --batch 16 --steps 100 --model MODEL --data E2E-FOLDER

Without a model it is the demo's base and its rows. Each run is a process of `lorakit train`, as a
user would start it, on one thread; time is that of the processor, with all that starting costs.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml
from safetensors.torch import load_file

from lorakit.demo import base_folder
from lorakit.demo.rows import rows


def main() -> None:
    """Train both ways and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=str(base_folder()))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recipe = write_recipe(options, folder)
        seeds = list(range(options.seeds))
        together = train(recipe, folder / "sweep", f"--sweep.train.seed={seeds}")
        alone = [train(recipe, folder / f"{s}", f"--train.seed={s}") for s in seeds]
        pairs = [(folder / "sweep" / f"seed={s}", folder / f"{s}") for s in seeds]
        furthest = max(difference(*pair) for pair in pairs)
        log = (folder / "sweep" / "log.txt").read_text()
    how = "side by side" if "runs side by side" in log else "in turn over one base"
    print(f"\n{options.seeds} seeds, {options.steps} steps of {options.batch}, {how}")
    print(f"{'':<28}{'processor time':>16}{'largest memory':>16}")
    print(f"{'lone runs, together':<28}{sum(t for t, _ in alone):>14.1f} s"
          f"{max(m for _, m in alone):>13.0f} MB")  # fmt: skip
    print(f"{'sweep':<28}{together[0]:>14.1f} s{together[1]:>13.0f} MB")
    print(f"lone runs / sweep: {sum(t for t, _ in alone) / together[0]:.2f}")
    print(f"largest difference of any number of the adapters: {furthest:.1e}")


def write_recipe(options: argparse.Namespace, folder: Path) -> Path:
    """The recipe that both ways train by."""
    if options.data is None:
        data = {"train": str(folder / "rows.jsonl")}
        told = [{k: row[k] for k in ("prompt", "completion")} for row in rows(500, seed=0)]
        Path(data["train"]).write_text("".join(json.dumps(row) + "\n" for row in told))
    else:
        train = str(options.data / "resplit_train.jsonl")
        data = {"train": train, "prompt": "{mr}\n", "completion": "{ref}"}
    content = {
        "model": options.model, "task": "completion", "data": data, "output": "set below",
        "lora": {"rank": 8, "alpha": 16, "targets": "all-linear"},
        "train": {"steps": options.steps, "batch_size": options.batch, "lr": 2e-3,
                  "save_every": 10**6, "device": "cpu"},
    }  # fmt: skip
    (folder / "recipe.yaml").write_text(yaml.safe_dump(content))
    return folder / "recipe.yaml"


def train(recipe: Path, output: Path, flag: str) -> tuple[float, float]:
    """One process of the command: its processor time in seconds, its largest memory in MB."""
    command = [sys.executable, "-m", "lorakit", "train", str(recipe), flag, "--quiet"]
    started = subprocess.Popen(
        [*command, f"--output={output}"], stdout=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    _, status, used = os.wait4(started.pid, 0)
    started.returncode = os.waitstatus_to_exitcode(status)
    if started.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {started.returncode}")
    assert isinstance(used, resource.struct_rusage)
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def difference(one: Path, other: Path) -> float:
    """The largest difference between two runs' adapters."""
    file = Path("adapter") / "adapter_model.safetensors"
    first, second = load_file(one / file), load_file(other / file)
    return max(float((first[name] - second[name]).abs().max()) for name in first)


if __name__ == "__main__":
    main()
