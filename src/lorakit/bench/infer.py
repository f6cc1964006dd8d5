"""`lorakit bench infer`: answers with one adapter, merged and not, over those of the base alone."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from lorakit.bench.bases import DTYPES, Shape, batch, make
from lorakit.bench.table import Row
from lorakit.bench.timing import interleave, ratio
from lorakit.bench.ways import Choice, available, ours, peft
from lorakit.core.merge import merge

TITLE = "time of a forward pass, over that of the base without adapters"
WHY = (  # a goal is not reached
    "decoding: an update of one token is four small operations and the hook's own Python, beside "
    "a layer of a few hundred microseconds. Merged: the hook asks once whether it is merged, "
    'which is less than the noise of "floor again".'
)
SHORT, LONG, PLAIN = Shape(rows=1, length=64), Shape(rows=1, length=512), Choice()
STEPS = 8  # tokens that are decoded one by one in each round


@dataclass(frozen=True)
class Case:
    """One row: `stage` is "prefill" (the whole text at once) or "decode" (a token at a time)."""

    stage: str
    precision: str
    merged: bool = False
    goal: float | None = None
    shape: Shape = SHORT
    choice: Choice = PLAIN

    def __str__(self) -> str:
        how = "merged" if self.merged else "not merged"
        return f"{self.stage}, {how}, {self.precision}, {self.shape}, r {self.choice.rank}"


def cases() -> list[Case]:
    """Decoding one token after 64, and reading a prompt of 512."""
    return [
        Case("decode", "fp32", goal=1.08), Case("decode", "bf16", goal=1.12),
        Case("prefill", "bf16", goal=1.16, shape=LONG),
        Case("decode", "fp32", True, 1.0), Case("decode", "bf16", True, 1.0),
        Case("prefill", "bf16", True, 1.0, LONG),
    ]  # fmt: skip


def measure(case: Case, *, rounds: int = 15, device: str = "cpu") -> Row:
    """A case: the base, the base again, ours and PEFT's, in turns."""
    base = make(case.shape, DTYPES[case.precision], device).eval()
    steps = {
        name: forward(_adapted(name, base, case), base.config, case)
        for name in available(["floor", "floor again", "lorakit", "PEFT"])
    }
    timings = interleave(steps, rounds, device=device)
    ratios = {name: ratio(own, timings["floor"]) for name, own in timings.items()}
    return Row(str(case), {n: r for n, r in ratios.items() if n != "floor"}, case.goal,
               ratios["lorakit"].middle)  # fmt: skip


def _adapted(way: str, base: Any, case: Case) -> Any:
    model = copy.deepcopy(base)
    if way == "lorakit":
        ours(model, case.choice)
        if case.merged:
            merge(model, "default")
    elif way == "PEFT":
        model, _ = peft(model, case.choice)
        if case.merged:
            model.merge_adapter()
    return model.eval()


def forward(model: Any, config: Any, case: Case) -> Callable[[], object]:
    """A function that reads the prompt, or decodes some tokens after it."""
    from transformers import DynamicCache

    inner = getattr(model, "base_model", model)
    ids = batch(replace(case.shape), inner)["input_ids"]

    @torch.no_grad()
    def prefill() -> None:
        model(input_ids=ids, use_cache=False)

    if case.stage == "prefill":
        return prefill
    cache: Any = DynamicCache(config=config)
    with torch.no_grad():
        model(input_ids=ids, past_key_values=cache, use_cache=True)

    @torch.no_grad()
    def decode() -> None:
        for _ in range(STEPS):
            model(input_ids=ids[:, :1], past_key_values=cache, use_cache=True)
        cache.crop(-STEPS)

    return decode
