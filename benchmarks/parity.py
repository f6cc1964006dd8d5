"""Ours and PEFT on the same batches from the same initial weights, on real models and data.

    python benchmarks/parity.py e2e  --model MODEL --data E2E-FOLDER
    python benchmarks/parity.py sst2 --model MODEL --data SST-2-FOLDER

Ours is trained by the recipe that a user would write; PEFT by Hugging Face's Trainer on the same
rows in the same order, from the adapter that ours started with. Printed are the losses, the metric
of the task, and how far the two are apart.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import peft
import sacrebleu
import torch
from transformers import PrinterCallback, Trainer, TrainerCallback, set_seed

import lorakit as lk
from lorakit.eval.generate import generate
from lorakit.models.ending import learnable_end
from lorakit.models.load import load_base, load_config, load_tokenizer
from lorakit.tasks import make_task
from lorakit.tasks.base import collate
from lorakit.tasks.data import encode, read_data
from lorakit.train.recipe import Recipe, make_recipe
from lorakit.train.record import read_events
from lorakit.train.run import run
from lorakit.train.sampler import SeededSampler
from lorakit.train.setup import arguments

MEANINGS = 100  # test meanings on which BLEU is measured


def main() -> None:
    """Train both and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=("e2e", "sst2"))
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--steps", type=int, default=None)
    parser.add_argument("--lr", type=float, default=None)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        recipe = make(options, Path(folder))
        ours = train_ours(recipe)
        theirs = train_peft(recipe)
        report(options, recipe, ours, theirs)


def make(options: argparse.Namespace, folder: Path) -> Recipe:
    """The recipe of the benchmark."""
    train: dict[str, Any] = {"seed": options.seed, "device": "cpu", "keep_best": False}
    if options.task == "e2e":
        data = {
            "train": str(options.data / "resplit_train.jsonl"),
            "eval": str(options.data / "resplit_test.jsonl"),
            "prompt": "{mr}\n", "completion": "{ref}",
        }  # fmt: skip
        train |= {"steps": options.steps or 400, "batch_size": 16, "lr": options.lr or 1e-2}
        task = "completion"
    else:
        data = {
            "train": str(options.data / "train.tsv"), "eval": str(options.data / "dev.tsv"),
            "train_rows": 3000,
        }  # fmt: skip
        train |= {"epochs": 2, "batch_size": 32, "lr": options.lr or 2e-3, "steps": options.steps}
        task = "classification"
    train |= {"eval_every": 10**6, "save_every": 10**6, "eval_batch_size": 64}
    return make_recipe({
        "model": options.model, "task": task, "data": data,
        "lora": {"rank": 8, "alpha": 16, "targets": "all-linear"},
        "train": train, "output": str(folder / "run"),
    })  # fmt: skip


def train_ours(recipe: Recipe) -> dict[str, Any]:
    """The run that `lorakit train` makes."""
    result = run(recipe)
    losses = [e["loss"] for e in read_events(result.folder / "events.jsonl") if "loss" in e]
    model, _, tokenizer, *_ = prepare(recipe)
    lk.load(model, result.adapter, name="ours", check_base=False)
    return {"losses": losses, **result.metrics, **bleu(recipe, model, tokenizer)}


def train_peft(recipe: Recipe) -> dict[str, Any]:
    """PEFT from the same start, on the same rows in the same order."""
    model, fresh, tokenizer, task, (rows, held) = prepare(recipe)
    plan = lk.plan(model, targets=recipe.lora.targets, rank=recipe.lora.rank)
    method = lk.LoRA(alpha=recipe.lora.alpha, extras=tuple(fresh))
    lk.inject(model, plan, name="start", method=method)
    start = Path(recipe.output) / "start"
    lk.save(model, start)
    lk.remove(model, "start")
    wrapped = peft.PeftModel.from_pretrained(model, str(start), is_trainable=True)
    options = recipe.train
    losses: list[float] = []

    class Losses(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **kwargs):
            if logs and "loss" in logs:
                losses.append(logs["loss"])

    class SameOrder(Trainer):
        def _get_train_sampler(self, train_dataset=None):
            return SeededSampler(len(rows), seed=options.seed, batch=options.batch_size)

    trainer = SameOrder(
        wrapped, arguments(recipe, len(rows), best=task.best, device="cpu"),
        data_collator=lambda batch: collate(batch, tokenizer.pad_token_id),
        train_dataset=rows, eval_dataset=held,
        compute_metrics=lambda p: task.metrics(p.predictions, p.label_ids),
        preprocess_logits_for_metrics=lambda logits, labels: task.statistics(logits, labels),
        callbacks=[Losses()],
    )  # fmt: skip
    trainer.remove_callback(PrinterCallback)
    model.config.use_cache = False
    trainer.train()
    metrics = trainer.evaluate()
    model.config.use_cache = True
    return {"losses": losses, **metrics, **bleu(recipe, wrapped.eval(), tokenizer)}


def prepare(recipe: Recipe) -> tuple[Any, list[str], Any, Any, tuple[list, list]]:
    """Base, fresh modules, tokenizer, task and rows, just as a run makes them."""
    task = make_task(recipe.task, recipe.data)
    checked = read_data(recipe.data, task, recipe.train.seed)
    tokenizer = load_tokenizer(recipe.model)
    set_seed(recipe.train.seed)
    base = load_base(recipe.model, task.kind, labels=task.labels(), padding=tokenizer.pad_token_id)
    if task.kind == "causal":
        tokenizer = load_tokenizer(recipe.model, learnable_end(base.model, tokenizer)[0])
    data = encode(checked, task, tokenizer, load_config(recipe.model), recipe.data)
    return base.model, base.fresh, tokenizer, task, data


def bleu(recipe: Recipe, model: Any, tokenizer: Any) -> dict[str, float]:
    """BLEU of greedy answers to test meanings against all of their references, lower-cased."""
    if recipe.task != "completion":
        return {}
    references: dict[str, list[str]] = {}
    for line in Path(str(recipe.data.eval)).read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        references.setdefault(row["mr"], []).append(row["ref"])
    meanings = list(references)[:MEANINGS]
    prompts = [f"{meaning}\n" for meaning in meanings]
    model.eval()
    if isinstance(model, peft.PeftModel):
        answers = generate_plain(model, tokenizer, prompts)
    else:
        answers = generate(model, tokenizer, prompts, adapters=["ours"], max_new_tokens=160)
    most = max(len(references[meaning]) for meaning in meanings)
    streams = [
        [references[m][i] if i < len(references[m]) else None for m in meanings]
        for i in range(most)
    ]
    return {"bleu": sacrebleu.corpus_bleu(answers, streams, lowercase=True).score}


def generate_plain(model: Any, tokenizer: Any, prompts: list[str]) -> list[str]:
    """Greedy answers of a model that lorakit did not adapt, in the same batches."""
    return generate(model.base_model.model, tokenizer, prompts, max_new_tokens=160)


def report(options: Any, recipe: Recipe, ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Print the table of both."""
    first = np.abs(np.subtract(ours["losses"][:20], theirs["losses"][:20])).max()
    tails = [float(np.mean(each["losses"][-20:])) for each in (ours, theirs)]
    names = ["eval_loss", "eval_accuracy", "bleu"]
    print(
        f"\n{options.task}: {len(ours['losses'])} steps, seed {options.seed}, lr {recipe.train.lr}"
    )
    print(f"{'':<30}{'lorakit':>12}{'PEFT ' + peft.__version__:>14}")
    print(f"{'training loss, last 20 steps':<30}{tails[0]:>12.4f}{tails[1]:>14.4f}")
    for name in names:
        if name in ours:
            print(f"{name:<30}{ours[name]:>12.4f}{theirs[name]:>14.4f}")
    print(f"largest difference of the first 20 losses: {first:.1e}")
    print(f"relative difference of the last losses: {abs(tails[0] / tails[1] - 1):.2%}")
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")


if __name__ == "__main__":
    main()
