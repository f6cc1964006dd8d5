"""From a recipe to a trainer: its arguments, and when a run evaluates, saves and stops."""

from __future__ import annotations

import functools
import math
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import PrinterCallback, TrainerCallback, TrainingArguments

from lorakit.core.state import trained_parameters
from lorakit.tasks.base import Features, Task, collate
from lorakit.train.folder import CHECKPOINTS
from lorakit.train.recipe import Recipe
from lorakit.train.record import Record
from lorakit.train.steps import steps_of
from lorakit.train.together import Part
from lorakit.train.trainer import AdapterTrainer

Meet = Callable[[Part], tuple[Tensor, list[Tensor | None]]]  # a step with others: loss, gradients


class RunTrainer(AdapterTrainer):
    """An `AdapterTrainer` that evaluates at the last step and stops when it no longer gains."""

    def __init__(self, *args: Any, patience: int | None, meet: Meet | None = None, **kwargs: Any):
        self.patience = patience
        self.meet = meet
        super().__init__(*args, **kwargs)

    def forward_backward(self, model: Any, inputs: dict[str, Any], count: Any) -> Tensor:
        """The step's loss and gradients, which come from `meet` where others train beside."""
        if self.meet is None:
            return super().forward_backward(model, inputs, count)
        model.train()
        scaled = self.model_accepts_loss_kwargs and count is not None
        share: Any = 1.0 if scaled else 1 / self.current_gradient_accumulation_steps
        # The loss of rows is a mean: see `_share`.
        if scaled and count is not None and inputs["labels"].dim() == 1:
            share, scaled = self._labels(inputs) / count, False
        own = [p for _, p in trained_parameters(self.adapted, self.adapter)]
        kept = [p.grad for p in own]
        for parameter in own:
            parameter.grad = None
        part = Part(self.adapter, self._prepare_inputs(inputs), count if scaled else None, share)
        loss, gradients = self.meet(part)
        for parameter, before, new in zip(own, kept, gradients):
            if before is not None:
                parameter.grad = before if new is None else before.add_(new)
            else:
                parameter.grad = new
        return loss

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        best = super()._determine_best_metric(metrics, trial)
        if self.is_over():
            self.control.should_training_stop = True
            self.control.should_save = True  # so that a resumed run knows that it is over
        return best

    def is_over(self, state: Any = None) -> bool:
        """Whether a state is the last one: all steps are done, or it waited too long for a gain."""
        state = state or self.state
        if state.global_step >= state.max_steps > 0:
            return True
        if self.patience is None or not state.best_global_step:
            return False
        return state.global_step - state.best_global_step >= self.patience * int(
            self.args.eval_steps or 1
        )


class Flow(TrainerCallback):
    """Evaluates after the last step, and turns Ctrl-C into a checkpoint and a clean stop."""

    def __init__(self, stop: threading.Event | None = None) -> None:
        self.stop = stop or threading.Event()
        self.previous: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Listen for Ctrl-C while training runs."""
        if threading.current_thread() is threading.main_thread():
            self.previous = signal.signal(signal.SIGINT, self._note)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Decide what happens after this step."""
        if self.stop.is_set():
            control.should_save = control.should_training_stop = True
        if state.global_step >= state.max_steps and args.eval_strategy != "no":
            control.should_evaluate = True

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop listening."""
        self.restore()

    def restore(self) -> None:
        """Give Ctrl-C its former meaning."""
        if self.previous is not None:
            signal.signal(signal.SIGINT, self.previous)
            self.previous = None

    def _note(self, number: int, frame: Any) -> None:
        del number, frame
        self.stop.set()
        self.restore()  # a second Ctrl-C ends the process at once


def arguments(
    recipe: Recipe, rows: int, *, best: tuple[str, bool] | None, device: str
) -> TrainingArguments:
    """Hugging Face's arguments for the recipe; `best` is the metric to choose by, if evaluated."""
    options = recipe.train
    steps = steps_of(recipe, rows)
    tenth = max(10, math.ceil(steps / 10))
    schedule = "constant_with_warmup" if options.schedule == "constant" else options.schedule
    chooses = best is not None and (options.keep_best or options.patience is not None)
    found = TrainingArguments(
        output_dir=str(Path(recipe.output).expanduser() / CHECKPOINTS),
        max_steps=steps,
        per_device_train_batch_size=options.batch_size,
        per_device_eval_batch_size=options.eval_batch_size or options.batch_size,
        gradient_accumulation_steps=options.accumulate,
        optim="adamw_torch_fused",
        learning_rate=options.lr,
        lr_scheduler_type=schedule,
        warmup_steps=round(steps * options.warmup),
        weight_decay=options.weight_decay,
        max_grad_norm=options.clip,
        seed=options.seed,
        fp16=options.precision == "fp16" and device == "cuda",
        use_cpu=device == "cpu",
        dataloader_pin_memory=device == "cuda",
        train_sampling_strategy="group_by_length" if options.length_groups else "random",
        eval_strategy="no" if best is None else "steps",
        eval_steps=options.eval_every or tenth,
        metric_for_best_model=best[0] if best and chooses else None,
        greater_is_better=best[1] if best and chooses else None,
        save_strategy="steps",
        save_steps=options.save_every or tenth,
        save_total_limit=options.keep,
        logging_steps=1,
        include_num_input_tokens_seen="non_padding",
        remove_unused_columns=False,
        label_names=["labels"],
        report_to="none",
        disable_tqdm=True,
        log_level="error",
    )
    # A process trains on one device, as steps and epochs are counted. With several GPUs in sight
    # Trainer would deal every batch out to all of them, and take so many times the rows.
    found._n_gpu = min(found.n_gpu, 1)
    return found


def _logits(found: Any) -> Tensor:
    """The logits of what a model gave besides its loss; a router's own loss has no rows."""
    return next(own for own in found if own.dim() > 1) if isinstance(found, tuple) else found


def make_trainer(
    recipe: Recipe, task: Task, model: Any, data: tuple[list[Features], list[Features]],
    padding: int, *, name: str, meet: Meet | None = None,
    stop: threading.Event | None = None, quiet: bool = False,
) -> RunTrainer:  # fmt: skip
    """The trainer of the adapter `name` on a model, and rows as token ids."""
    rows, held = data
    trainer = RunTrainer(
        model,
        arguments(recipe, len(rows), best=task.best if held else None, device=model.device.type),
        patience=recipe.train.patience,
        adapter=name,
        meet=meet,
        lora_plus=recipe.train.lora_plus,
        data_collator=functools.partial(collate, padding=padding),
        train_dataset=rows,
        eval_dataset=held or None,
        compute_metrics=lambda scored: task.metrics(scored.predictions, scored.label_ids),
        preprocess_logits_for_metrics=lambda logits, labels: task.statistics(
            _logits(logits), labels
        ),
        callbacks=[Flow(stop), Record(Path(recipe.output).expanduser(), quiet=quiet)],
    )
    trainer.remove_callback(PrinterCallback)  # it prints each step; the record's bar shows it
    return trainer
