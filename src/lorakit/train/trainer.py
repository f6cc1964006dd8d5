"""`AdapterTrainer`: Hugging Face's Trainer for a model that lorakit adapted.

It saves, resumes and restores adapters instead of whole models, writes checkpoints that are whole
or not there, and stops where going on would be wrong.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Trainer, TrainerState
from transformers.trainer_callback import ExportableState

from lorakit.core.errors import DeadAdapterError, TrainingError, shortlist
from lorakit.core.folder import whole_folder
from lorakit.core.registry import require_registry
from lorakit.core.state import restore, trained_parameters
from lorakit.formats.load import read_adapter
from lorakit.formats.save import adapter_files, save
from lorakit.methods.lora_plus import zero_started
from lorakit.models.headless import (
    TRIALS,
    Headless,
    WithLogits,
    given_to,
    is_large,
    plain_head,
    probe,
    same_logits,
)
from lorakit.tasks.base import IGNORED
from lorakit.train import checkpoint
from lorakit.train.adalora import is_settled, prunes, restore_progress, write_progress
from lorakit.train.counts import divides
from lorakit.train.pruning import Pruning
from lorakit.train.sampler import SeededSampler

_CLOSE = 1e-5  # relative: two sums in float32 of the same losses
log = logging.getLogger("lorakit")


class AdapterTrainer(Trainer):
    """Trains the one adapter that is active on the model; takes what `transformers.Trainer` takes.

    The model must be injected first. Another `adapter` is trained inside `with lk.use(model, ...)`.
    `lora_plus` is LoRA+'s ratio of learning rates. `save_model`
    writes the adapter's folder; a checkpoint holds the adapter, the optimiser, the schedule and the
    random state, and `train` resumes from it to the same bits. Raises `TrainingError` within one
    step of a loss or weight that is not finite, and `DeadAdapterError` after the first backward
    pass if part of the adapter got no gradient.
    """

    def __init__(
        self, model: nn.Module, *args: Any, lora_plus: float = 1.0, adapter: str | None = None,
        **kwargs: Any,
    ):  # fmt: skip
        self.adapted = model
        self.lora_plus = lora_plus
        self.adapter = _one_active(model) if adapter is None else adapter
        self._proved_alive = False
        self._headless: dict[tuple[Any, ...], bool] = {}  # by kind of batch: whether it is right
        self._counted: dict[tuple[Any, ...], bool] = {}  # the same: see `_share`
        with _known_as_adapted(model):
            super().__init__(model, *args, **kwargs)
        if prunes(model, self.adapter):
            self.add_callback(Pruning(model, self.adapter))

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> Tensor:
        """One forward and backward pass, checked."""
        loss = self.forward_backward(model, inputs, num_items_in_batch)
        if not torch.isfinite(loss):
            raise TrainingError(
                f"The loss is {float(loss)} at step {self.state.global_step + 1}, so training "
                "stops; the last checkpoint is good. Lower the learning rate, or look at the data "
                "and at the base's weights."
            )
        if not self._proved_alive:
            self._check_alive()
            self._proved_alive = True
        return loss

    def forward_backward(self, model: nn.Module, inputs: dict[str, Any], count: Any) -> Tensor:
        """The step's loss, detached, with the gradients added to those that are there."""
        return super().training_step(model, inputs, count)

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:  # fmt: skip
        """The loss; where the logits would be large, without making them as a whole."""
        head = None if return_outputs else self._head_for(inputs, num_items_in_batch)
        if head is None:
            share = self._share(model, inputs, num_items_in_batch)
            made = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
            return (made[0] * share, made[1]) if return_outputs else made * share
        smoothing = self.args.label_smoothing_factor
        return self._loss_by(Headless(model, head, smoothing=smoothing), inputs, num_items_in_batch)

    def _share(self, model: Any, inputs: dict[str, Any], count: Any) -> Any:
        """What the loss is to be multiplied by, so that batches add up to what one would be.

        Trainer takes for granted that a model which takes any argument divides its loss by the
        `count` of labels in all batches of a step. Many give the mean of their own batch whatever
        they are told: encoders with a head, T5, BART. Theirs is multiplied by its share of labels.
        """
        lone = self.current_gradient_accumulation_steps == 1 and self.args.world_size == 1
        if count is None or lone or not self.model_accepts_loss_kwargs:
            return 1
        kind = tuple(sorted(inputs))
        if kind not in self._counted:
            self._counted[kind] = divides(super().compute_loss, model, inputs, count)
        return 1 if self._counted[kind] else self._labels(inputs) / count

    def _labels(self, inputs: dict[str, Any]) -> Tensor:
        """How many labels of a batch count, as Trainer counts them."""
        labels = inputs["labels"]
        return (labels[..., 1:] if self._loss_shifts_labels else labels).ne(IGNORED).sum()

    def _loss_by(self, model: Any, inputs: dict[str, Any], count: Any) -> Any:
        # Trainer's label smoothing asks for logits: here the model has done it.
        smoother, self.label_smoother = self.label_smoother, None
        try:
            return super().compute_loss(model, inputs, num_items_in_batch=count)
        finally:
            self.label_smoother = smoother

    def _head_for(self, inputs: dict[str, Any], count: Any) -> nn.Linear | None:
        """The head to make the loss by in chunks; None where logits are few, or not known well."""
        head = plain_head(self.adapted)
        if head is None or not self.adapted.training or self.compute_loss_func is not None:
            return None
        cut = probe(inputs)
        if cut is None or not is_large(head, inputs["labels"]):
            return None
        if self.args.torch_compile or self.args.n_gpu > 1:
            return None
        kind = (*sorted(inputs), count is None)
        if kind not in self._headless:
            self._headless[kind] = all(self._agrees(head, cut, count, t) for t in TRIALS)
            what = "in chunks" if self._headless[kind] else "as a whole: the model changes them"
            log.info("logits are made %s", what)
        return head if self._headless[kind] else None

    def _agrees(
        self, head: nn.Linear, cut: dict[str, Tensor], count: Any, times: float
    ) -> bool:  # fmt: skip
        """Whether the model's own logits and loss of a few tokens are those of the head alone."""
        devices = [head.weight.device] if head.weight.is_cuda else []
        with torch.no_grad(), torch.random.fork_rng(devices):
            with given_to(head, lambda x: x * times) as seen:
                loss, outputs = super().compute_loss(self.adapted, dict(cut), True, count)
            logits = same_logits(head, seen, times, getattr(outputs, "logits", None))
            if logits is None:
                return False
            known = WithLogits(logits, smoothing=self.args.label_smoothing_factor)
            return torch.allclose(self._loss_by(known, cut, count), loss.float(), _CLOSE, 0.0)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """The optimiser of the arguments; with LoRA+, its groups parted by learning rate."""
        fresh = self.optimizer is None
        optimizer = super().create_optimizer(model)
        if fresh:  # the model may have other adapters that are trained elsewhere
            own = {id(p) for _, p in trained_parameters(self.adapted, self.adapter)}
            for group in optimizer.param_groups:
                group["params"] = [p for p in group["params"] if id(p) in own]
        if self.lora_plus != 1 and fresh:
            fast = {id(p) for p in zero_started(self.adapted)}
            for group in list(optimizer.param_groups):
                own = [p for p in group["params"] if id(p) in fast]
                if own:
                    group["params"] = [p for p in group["params"] if id(p) not in fast]
                    optimizer.add_param_group(
                        {**group, "params": own, "lr": group["lr"] * self.lora_plus}
                    )
        return optimizer

    def _check_alive(self) -> None:
        dead = [
            name
            for name, p in trained_parameters(self.adapted, self.adapter)
            if p.requires_grad and p.grad is None
        ]
        if dead:
            raise DeadAdapterError(
                f"After the first backward pass {len(dead)} parameters of {self.adapter!r} have no "
                f"gradient: {shortlist(dead)}. Their layers are not called, or their weights are "
                "read past them. Leave these layers out of the plan."
            )

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        self._check_weights()
        super()._maybe_log_save_evaluate(*args, **kwargs)

    def _check_weights(self) -> None:
        sums = [p.detach().sum() for _, p in trained_parameters(self.adapted, self.adapter)]
        if not torch.isfinite(torch.stack(sums)).all():
            raise TrainingError(
                f"A weight of the adapter is not finite after step {self.state.global_step}, so "
                "training stops; the last checkpoint is good. Lower the learning rate."
            )

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        data: Any = self.train_dataset if train_dataset is None else train_dataset
        grouped = self.args.train_sampling_strategy == "group_by_length"
        return SeededSampler(
            len(data),
            seed=self.args.seed if self.args.data_seed is None else self.args.data_seed,
            batch=self.args.train_batch_size,
            lengths=[len(row["input_ids"]) for row in data] if grouped else None,
        )

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        if not is_settled(self.adapted, self.adapter, self.state):
            return False
        best = super()._determine_best_metric(metrics, trial)
        if best:
            self.control.should_save = True  # the best state is one that can be gone back to
        return best

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        del state_dict
        save(self.adapted, output_dir or str(self.args.output_dir), name=self.adapter)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        del model
        self.store_flos()
        run = Path(self._get_output_dir(trial=trial))
        target = checkpoint.path_for(run, self.state.global_step)
        with whole_folder(target, lambda _: None) as partial:
            self._fill(partial)
            checkpoint.seal(partial)
        if self.state.best_global_step is not None:
            best = checkpoint.path_for(run, self.state.best_global_step)
            self.state.best_model_checkpoint = str(best)
        checkpoint.rotate(
            run, keep=self.args.save_total_limit or 10**9, best=self.state.best_global_step
        )

    def _fill(self, folder: Path) -> None:
        for name, content in adapter_files(self.adapted, self.adapter).items():
            (folder / name).write_bytes(content)
        write_progress(folder, self.adapted, self.adapter)
        place = os.fspath(folder)
        self._save_optimizer_and_scheduler(place)
        self._save_scaler(place)
        self._save_rng_state(place)
        states: Any = self.state.stateful_callbacks
        states.update({type(part).__name__: part.state() for part in self._stateful()})
        self.state.save_to_json(str(folder / checkpoint.STATE))

    def _stateful(self) -> Iterable[Any]:
        parts = [*self.callback_handler.callbacks, self.control]
        return [part for part in parts if isinstance(part, ExportableState)]

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        del model
        self.restore(Path(resume_from_checkpoint))

    def restore(self, folder: Path) -> TrainerState:
        """Put the adapter of a checkpoint on the model, every tensor of it; return its state."""
        checkpoint.require_whole(folder)
        state = read_adapter(folder, model=self.adapted)
        if not restore_progress(folder, self.adapted, self.adapter):
            restore(self.adapted, self.adapter, state)
        return TrainerState.load_from_json(str(folder / checkpoint.STATE))

    def restore_best(self) -> int | None:
        """Go back to the best evaluated state; return its step, or None where none is kept."""
        best = self.state.best_global_step
        if best is None or best == self.state.global_step:
            return best
        self.restore(checkpoint.path_for(Path(str(self.args.output_dir)), best))
        return best


@contextmanager
def _known_as_adapted(model: Any) -> Iterator[None]:
    """Tell Trainer that a quantised model has adapters; it looks for PEFT's mark alone.

    The mark is there only while Trainer is built, as `save_pretrained` would act on it.
    """
    mark = "_hf_peft_config_loaded"
    marked = getattr(model, "is_quantized", False) and mark not in model.__dict__
    if marked:
        model.__dict__[mark] = True
    try:
        yield
    finally:
        if marked:
            del model.__dict__[mark]


def _one_active(model: nn.Module) -> str:
    registry = require_registry(model)
    if registry.merged is not None:
        raise TrainingError(
            "Adapters are merged into this model, so that none acts on its own. Call "
            "lk.unmerge(model) first."
        )
    names = registry.names_of(registry.active.ids)
    if len(names) != 1:
        raise TrainingError(
            f"AdapterTrainer trains one adapter; active are {', '.join(names) or 'none'}. Call "
            "lk.activate(model, name) first."
        )
    return names[0]
