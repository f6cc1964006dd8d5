"""`lorakit bench mixed`: a batch in which every row has its own adapter, over the base alone."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from lorakit.bench import infer
from lorakit.bench.bases import DTYPES, Shape, make
from lorakit.bench.table import Row
from lorakit.bench.timing import interleave, ratio
from lorakit.bench.ways import Choice, available
from lorakit.core.activate import use
from lorakit.methods.inject import inject
from lorakit.methods.lora import LoRA
from lorakit.models.plan import plan

BATCH, PLAIN = Shape(rows=64, length=32), Choice()
TITLE = "time of a forward pass with an adapter for each row, over that of the base alone"
WHY = (  # a goal is not reached
    "the stacks of many adapters are made in every call, so that nothing can be out of date."
)


@dataclass(frozen=True)
class Case:
    """One row: so many adapters, dealt out to the rows of the batch in turns."""

    stage: str
    precision: str
    goal: float | None = None
    adapters: int = 64
    shape: Shape = BATCH
    choice: Choice = PLAIN

    def __str__(self) -> str:
        what = "a token each" if self.stage == "decode" else f"{self.shape.length} tokens each"
        return (
            f"{self.adapters} adapters, {self.shape.rows} rows, {what}, {self.precision}, "
            f"{self.shape.kind}-like, d {self.shape.width}, {self.shape.layers} layers, "
            f"r {self.choice.rank}"
        )

    def names(self) -> list[str]:
        """The adapter of each row."""
        return [f"tenant {row % self.adapters}" for row in range(self.shape.rows)]


def cases() -> list[Case]:
    """64 tenants in one batch; fewer of them, and the same number over fewer rows each."""
    return [
        Case("decode", "fp32", 1.8), Case("decode", "bf16", 1.8),
        Case("prefill", "fp32", 1.3), Case("prefill", "bf16", 1.3),
        Case("decode", "bf16", adapters=8), Case("prefill", "bf16", adapters=8),
    ]  # fmt: skip


def measure(case: Case, *, rounds: int = 15, device: str = "cpu") -> Row:
    """A case: the base, the base again, ours and PEFT's, in turns."""
    base = make(case.shape, DTYPES[case.precision], device).eval()
    made = {"floor": _alone, "floor again": _alone, "lorakit": _ours, "PEFT": _peft}
    steps = {name: made[name](copy.deepcopy(base), case) for name in available(list(made))}
    timings = interleave(steps, rounds, device=device)
    ratios = {name: ratio(own, timings["floor"]) for name, own in timings.items()}
    return Row(str(case), {n: r for n, r in ratios.items() if n != "floor"}, case.goal,
               ratios["lorakit"].middle)  # fmt: skip


def _alone(model: Any, case: Case) -> Callable[[], object]:
    return infer.forward(model, model.config, case)  # type: ignore[arg-type]


def _ours(model: Any, case: Case) -> Callable[[], object]:
    chosen = plan(model, targets=list(case.choice.targets), rank=case.choice.rank)
    for number in range(case.adapters):
        inject(model, chosen, name=f"tenant {number}", method=LoRA(alpha=2.0 * case.choice.rank))
    step = infer.forward(model.eval(), model.config, case)  # type: ignore[arg-type]
    names = case.names()

    def mixed() -> None:
        with use(model, per_sample=names):
            step()

    return mixed


def _peft(model: Any, case: Case) -> Callable[[], object]:
    """PEFT's `adapter_names`: the linear layers take its rows one adapter after the other."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=case.choice.rank, lora_alpha=2 * case.choice.rank,
        target_modules=list(plan(model, targets=list(case.choice.targets), rank=1)),
    )  # fmt: skip
    plain = model.config
    names = [name.replace(" ", "_") for name in case.names()]
    adapted = get_peft_model(model, config, adapter_name=names[0])
    for name in dict.fromkeys(names[1:]):
        if name not in adapted.peft_config:
            adapted.add_adapter(name, config)
    adapted.eval()

    class Named(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.base_model = adapted

        def forward(self, **given: Any) -> Any:
            return adapted(**given, adapter_names=names)

    return infer.forward(Named(), plain, case)  # type: ignore[arg-type]
