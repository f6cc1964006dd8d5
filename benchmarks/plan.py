"""The planner's forecast beside measured runs: peak memory of the process, and time of a step.

    python benchmarks/plan.py [--case 3] [--malloc-defaults]

Each run is a process of its own. It trains the same kind of model, but tiny, so that all code is
there; then its resident memory is what the run is measured above. The real model is made, with its
adapter and the trainer of `lorakit train`; the kernel's highest mark of resident memory is set back
and read again after the last step. Memory that is freed goes back to the system at once (fixed
thresholds of malloc, one arena), unless --malloc-defaults leaves that as users have it. Times are
of the CPU, with one thread, so that a busy machine does not matter much.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FIXED = {
    "MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536",
    "MALLOC_TOP_PAD_": "0",
}  # fmt: skip
STEPS = 3  # the optimiser has its states from the second on
LLAMA = {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 2048}
SMALL = {
    "hidden_size": 64, "num_attention_heads": 2, "intermediate_size": 64, "num_hidden_layers": 1,
    "n_embd": 64, "n_head": 2, "n_layer": 1, "d_model": 64, "d_kv": 32, "d_ff": 64, "num_layers": 1,
    "num_heads": 2, "num_key_value_heads": 2, "vocab_size": 512,
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A model by its config, a recipe's options, and rows of up to `length` tokens.

    `held` cases were looked at only after all else was fixed.
    """

    family: str
    config: dict[str, Any]
    task: str = "text"
    rows: int = 8
    length: int = 256
    targets: int = 64
    lora: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)
    held: bool = False

    def __str__(self) -> str:
        said = {**self.lora, **self.train}
        more = ", ".join(f"{name} {value}" for name, value in said.items())
        return f"{self.family}, {self.task}, {self.rows} x {self.length}, {more}"


def _llama(layers: int, vocabulary: int = 32000, **more: Any) -> dict[str, Any]:
    return {**LLAMA, "num_hidden_layers": layers, "vocab_size": vocabulary, **more}


BF16: dict[str, Any] = {"precision": "bf16"}
CASES = [
    Case("llama", _llama(4), lora={"rank": 8}),
    Case("llama", _llama(6), length=512, lora={"rank": 8, "dropout": 0.05}, train=BF16),
    Case("llama", _llama(8, 8192), length=512, lora={"rank": 64},
         train={"checkpointing": True}),
    Case("gpt2", {"n_layer": 6}, "completion", lora={"rank": 4, "targets": ["q", "v"]}),
    Case("bert", {"num_hidden_layers": 6}, "classification", 32, 128, lora={"rank": 8}),
    Case("t5", {}, "seq2seq", 16, 256, lora={"rank": 8}),
    Case("qwen2", _llama(6, 16384, num_key_value_heads=4), "completion", 4, 512,
         lora={"rank": 16, "dropout": 0.1}, held=True),
    Case("gpt2", {"n_layer": 8, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}, "text",
         length=512, lora={"rank": 8}, train={**BF16, "checkpointing": True}, held=True),
    Case("bert", {"num_hidden_layers": 8}, "classification", 32, 256,
         lora={"rank": 16, "targets": ["q", "v"]}, train=BF16, held=True),
    Case("llama", _llama(4, 1024), "completion", 16, 256, lora={"rank": 8, "method": "dora"},
         held=True),
]  # fmt: skip


def recipe_of(case: Case, folder: Path, *, small: bool = False) -> Any:
    """The recipe of a case, or of one like it but tiny, with its base's config in a folder."""
    import transformers as tf

    from lorakit.train.recipe import make_recipe

    fields = dict(case.config)
    kinds = {"llama": "Llama", "gpt2": "GPT2", "bert": "Bert", "t5": "T5", "qwen2": "Qwen2"}
    kind = getattr(tf, f"{kinds[case.family]}Config")
    if case.family == "t5":
        fields |= {"decoder_start_token_id": 0, "num_layers": 6}
    if small:
        known = kind().to_dict()
        fields |= {name: value for name, value in SMALL.items() if name in known}
    place = folder / ("small" if small else "base")
    kind(pad_token_id=0, **fields).save_pretrained(place)
    return make_recipe({
        "model": str(place), "task": case.task, "data": {"train": "none"}, "lora": case.lora,
        "train": {"steps": STEPS, "batch_size": case.rows, "device": "cpu", **case.train},
        "output": str(folder / ("small-run" if small else "run")),
    })  # fmt: skip


def rows_of(case: Case, vocabulary: int, *, small: bool = False) -> list[dict[str, Any]]:
    """A batch of rows: full blocks of text, else from half of the length up to all of it."""
    import torch

    numbers = torch.Generator().manual_seed(0)
    length = 40 if small else case.length
    found = []
    for row in range(case.rows):
        own = length if case.task == "text" else length - row * (length // 2) // case.rows
        ids = torch.randint(1, vocabulary, (own,), generator=numbers).tolist()
        labels: Any = ids
        if case.task == "classification":
            labels = row % 2
        elif case.task == "seq2seq":
            labels = ids[: case.targets]
        elif case.task == "completion":
            labels = [-100] * (own // 2) + ids[own // 2 :]
        found.append({"input_ids": ids, "attention_mask": [1] * own, "labels": labels})
    return found


def seen(case: Case, rows: list[dict[str, Any]]) -> Any:
    """What the planner is told of the rows, as it finds it in a recipe's data."""
    from lorakit.models.rehearse import Batch
    from lorakit.train.expected import Expected

    counted = 1.0
    if case.task == "completion":
        share = [sum(label >= 0 for label in row["labels"]) for row in rows]
        counted = sum(share) / (case.length * case.rows)
    full = case.task == "text"
    targets = case.targets if case.task == "seq2seq" else None
    return Expected(Batch(case.rows, case.length, targets, full, counted), "the case")


def train(recipe: Any, rows: list[dict[str, Any]]) -> tuple[int, list[float]]:
    """Make the model and train it as `lorakit train` does; its peak in bytes, its steps' times."""
    import torch

    from lorakit.methods.inject import inject
    from lorakit.models.checkpointing import checkpoint_blocks
    from lorakit.models.load import DTYPES, read_config, structure
    from lorakit.train.forecast import Question
    from lorakit.train.setup import make_trainer
    from lorakit.train.start import chosen_method

    question = Question(recipe, seen=object())  # type: ignore[arg-type]
    chosen, _, extras = question.cost()
    torch.manual_seed(0)
    empty = structure(read_config(recipe.model), question.task.kind, question.labels)
    torch.set_default_dtype(DTYPES[recipe.train.precision])  # as a base is loaded: never wider
    model = type(empty)(empty.config)
    torch.set_default_dtype(torch.float32)
    method = chosen_method(recipe, question.task, model, rows, padding=0, extras=extras)
    inject(model, chosen, name="trained", method=method)
    model.config.use_cache = False
    if recipe.train.checkpointing:
        checkpoint_blocks(model)
    trainer = make_trainer(
        recipe, question.task, model, (rows, []), 0, name="trained", quiet=True
    )  # fmt: skip
    times: list[float] = []
    step = trainer.training_step

    def timed(*args: Any, **kwargs: Any) -> Any:
        began = time.process_time()
        loss = step(*args, **kwargs)
        times.append(time.process_time() - began)
        return loss

    trainer.training_step = timed  # type: ignore[method-assign]
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the highest mark is what is there now
    trainer.train()
    return resident("VmHWM"), times[1:]


def resident(field_name: str) -> int:
    """A figure of this process in bytes: VmRSS or VmHWM."""
    text = Path("/proc/self/status").read_text()
    found = re.search(rf"{field_name}:\s+(\d+) kB", text)
    assert found is not None
    return int(found[1]) * 1024


def child(number: int) -> None:
    """One run, in this process; what was measured goes to stdout as JSON."""
    import torch
    import transformers

    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    case = CASES[number]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        train(recipe_of(case, folder, small=True), rows_of(case, 512, small=True))
        gc.collect()
        base = resident("VmRSS")
        rows = rows_of(case, case.config.get("vocab_size", 30000))
        most, times = train(recipe_of(case, folder), rows)
    found = {"base": base, "above": most - base, "seconds": statistics.median(times)}
    print(json.dumps(found))


def forecast(case: Case) -> Any:
    """The planner's rehearsal of a case."""
    from lorakit.train.forecast import Question

    with tempfile.TemporaryDirectory() as place:
        recipe = recipe_of(case, Path(place))
        rows = rows_of(case, 30000)
        question = Question(recipe, seen=seen(case, rows))
        chosen, _, extras = question.cost()
        return question.stage(chosen, extras).rehearse(question.expected.batch)


def measured(number: int, *, fixed: bool) -> dict[str, float]:
    """The same of a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    environment |= FIXED if fixed else {}
    command = [sys.executable, __file__, "--child", str(number)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Print the table, a row for each case as it is done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", type=int, action="append", help="rows of the table, from 1")
    parser.add_argument("--malloc-defaults", action="store_true")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child is not None:
        child(given.child)
        return
    import torch

    from lorakit.analysis.allocations import PARTS
    from lorakit.analysis.machine import measure_speed
    from lorakit.models.load import DTYPES
    from lorakit.train.forecast import step_seconds

    torch.set_num_threads(1)
    head = ["", *PARTS, "forecast", "measured", "error", "process", "step", "measured", "ratio"]
    print(f"| {' | '.join(head)} |\n|{' --- |' * len(head)}")
    errors, ratios = [], []
    for number, case in enumerate(CASES):
        if given.case and number + 1 not in given.case:
            continue
        found, told = measured(number, fixed=not given.malloc_defaults), forecast(case)
        dtype = DTYPES[case.train.get("precision", "fp32")]
        speed = measure_speed(dtype, seconds=2, clock=time.process_time)
        seconds = step_seconds(told, speed)
        errors.append(told.peak / found["above"] - 1)
        ratios.append(seconds / found["seconds"])
        cells = [f"{told.parts[part] / 1e6:.0f}" for part in PARTS]
        cells += [f"{told.peak / 1e6:.0f}", f"{found['above'] / 1e6:.0f}", f"{errors[-1]:+.1%}"]
        cells += [f"{found['base'] / 1e6:.0f}", f"{seconds:.2f} s", f"{found['seconds']:.2f} s"]
        held = " (held out)" if case.held else ""
        print(f"| {case}{held} | {' | '.join(cells)} | {ratios[-1]:.2f} |", flush=True)
    print(
        f"\nMemory in MB of 1e6 bytes, seconds of CPU. Largest error {max(map(abs, errors)):.1%}; "
        f"time of a step, forecast over measured: {min(ratios):.2f} to {max(ratios):.2f}."
    )


if __name__ == "__main__":
    main()
