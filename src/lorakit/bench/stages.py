"""The stages of an adapter's life, each measured beside PEFT where it is installed."""

from __future__ import annotations

import copy
import itertools
import tempfile
import tracemalloc
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lorakit.bench.bases import DTYPES, Shape, batch, make
from lorakit.bench.table import Amount, Row
from lorakit.bench.timing import Ratio, Step, Timing, interleave, ratio
from lorakit.bench.ways import Choice, available, peft
from lorakit.core.activate import activate, use
from lorakit.core.inject import remove
from lorakit.core.merge import merge, unmerge
from lorakit.core.state import capture, trained_parameters
from lorakit.formats.files import TENSORS
from lorakit.formats.load import load
from lorakit.formats.manifest import MANIFEST, sha256
from lorakit.formats.save import save
from lorakit.methods.inject import inject
from lorakit.methods.lora import LoRA
from lorakit.models.plan import plan

OURS, PEER, FLOOR = "lorakit", "PEFT", "floor"
# PEFT's time for one more adapter grows with those that are there: 400 take it many minutes.
MOST = 20
AGAIN = 100  # times that a switch is made in a turn: one alone is shorter than the clock's tick


@dataclass(frozen=True)
class Case:
    """One row: a stage, the base it is measured on, and how many adapters are there already.

    `goal` is in the unit of what is reached: milliseconds a layer or in all, a ratio, or a share.
    """

    stage: str
    shape: Shape = field(default_factory=Shape)
    rank: int = 16
    precision: str = "fp32"
    present: int = 0
    cycles: int = 1
    goal: float | None = None

    def __str__(self) -> str:
        layers = f"{7 * self.shape.layers} layers of d {self.shape.width}, r {self.rank}"
        parts = [self.stage, layers, self.precision]
        parts += [f"{self.present} adapters present"] if self.present else []
        parts += [f"cycles: {self.cycles}"] if self.stage == "bits" else []
        return ", ".join(parts)


class Pair:
    """One base twice: with our adapters on it and, where PEFT is installed, with PEFT's."""

    def __init__(self, case: Case, device: str, *, adapters: int = 1):
        self.case = case
        self.base = make(case.shape, DTYPES[case.precision], device)
        self.ours: Any = copy.deepcopy(self.base)
        self.plan = plan(self.ours, rank=case.rank)
        self.method = LoRA(alpha=2.0 * case.rank)
        for number in range(adapters):
            self.inject(str(number))
        self.peft: Any = None
        if 0 < adapters <= MOST and available([PEER]):
            self.peft = self.peer()
            for number in range(1, adapters):
                self.peft.add_adapter(str(number), self.peft.peft_config["default"])

    def inject(self, name: str) -> None:
        """One more adapter of ours."""
        inject(self.ours, self.plan, name=name, method=self.method)

    def peer(self) -> Any:
        """A copy of the base with PEFT's first adapter on it."""
        return peft(copy.deepcopy(self.base), Choice(rank=self.case.rank))[0]

    def train(self) -> None:
        """Let the first adapter of both be one that changes something: the same random one."""
        torch.manual_seed(0)
        values = dict(trained_parameters(self.ours, "0"))
        with torch.no_grad():
            for value in values.values():
                value.normal_(std=0.02)
            for name, value in self.peft.named_parameters() if self.peft else ():
                path, _, factor = name.removeprefix("base_model.model.").partition(".lora_")
                if factor.endswith(".default.weight"):
                    value.copy_(values[f"{path} {factor[0]}"])


def measure_inject(case: Case, rounds: int, device: str) -> Row:
    """One more adapter: milliseconds in all; what is reached is those for each layer."""
    pair = Pair(case, device, adapters=case.present)
    ways: dict[str, Step] = {OURS: lambda: pair.inject("new")}
    before: dict[str, Step] = {}
    after: dict[str, Step] = {OURS: lambda: remove(pair.ours, "new")}
    if case.present <= MOST and available([PEER]):
        config = pair.peft.peft_config["default"] if case.present else None
        fresh: list[Any] = []

        def add() -> None:
            if config is None:
                peft(fresh.pop(), Choice(rank=case.rank))
            else:
                pair.peft.add_adapter("new", config)

        ways[PEER] = add
        if config is None:
            before[PEER] = lambda: fresh.append(copy.deepcopy(pair.base))
        else:
            after[PEER] = lambda: pair.peft.delete_adapter("new")
    timings = interleave(ways, rounds, device=device, before=before, after=after)
    each = 1000 * timings[OURS].median / len(pair.plan)
    return Row(str(case), {**_shown(timings), "lorakit, a layer": _ms(each)}, case.goal, each)


def measure_load(case: Case, rounds: int, device: str, *, proved: bool) -> Row:
    """An adapter from its folder, over `load_file` of the same file, which reads none of it."""
    from safetensors.torch import load_file

    pair = Pair(case, device)
    pair.train()
    with tempfile.TemporaryDirectory() as place:
        folder = save(pair.ours, Path(place) / "adapter", name="0")
        if not proved:
            (folder / MANIFEST).unlink()
        file = folder / TENSORS
        size = Amount(file.stat().st_size / 1e6, "MB")
        ways: dict[str, Step] = {
            FLOOR: lambda: load_file(file),
            "floor, copied": lambda: [value.clone() for value in load_file(file).values()],
            OURS: lambda: load(pair.ours, folder, name="new"),
        }
        after: dict[str, Step] = {OURS: lambda: remove(pair.ours, "new")}
        if proved:
            data = file.read_bytes()
            ways["sha256 alone"] = lambda: sha256(data)
        if pair.peft:
            ways[PEER] = lambda: pair.peft.load_adapter(str(folder), "new")
            after[PEER] = lambda: pair.peft.delete_adapter("new")
        timings = interleave(ways, rounds, device=device, after=after)
    reached = ratio(timings[OURS], timings[FLOOR]).middle
    return Row(f"{case}, {size}", _shown(timings), case.goal, reached)


def measure_save(case: Case, rounds: int, device: str) -> Row:
    """An adapter into a folder, which it replaces."""
    pair = Pair(case, device)
    pair.train()
    with tempfile.TemporaryDirectory() as place:
        ways: dict[str, Step] = {OURS: lambda: save(pair.ours, Path(place) / "ours", name="0")}
        if pair.peft:
            ways[PEER] = lambda: pair.peft.save_pretrained(f"{place}/theirs")
        timings = interleave(ways, rounds, device=device)
    return Row(str(case), _shown(timings))


def measure_switch(case: Case, rounds: int, device: str, *, inside: bool) -> Row:
    """From one adapter to another, for all threads, or for a block of one thread."""
    pair = Pair(case, device, adapters=2)
    mine, theirs = itertools.cycle("01"), itertools.cycle(["default", "1"])

    def switch() -> None:
        for _ in range(AGAIN):
            activate(pair.ours, next(mine))

    def enter_and_leave() -> None:
        for _ in range(AGAIN):
            with use(pair.ours, next(mine)):
                pass

    ways: dict[str, Step] = {OURS: enter_and_leave if inside else switch}
    if pair.peft:  # which has no block of its own: this is one way of the two
        ways[PEER] = lambda: pair.peft.set_adapter(next(theirs))
    timings = interleave(ways, rounds, device=device)
    each = 1000 * timings[OURS].median / AGAIN
    shown = {**_shown(timings), OURS: Amount(1000 * each, "us")}
    return Row(str(case), shown, case.goal, each)


def measure_merge(case: Case, rounds: int, device: str, *, back: bool) -> Row:
    """Into the weights, or `back`; the floor is the same sum, rounded, and no more."""
    pair = Pair(case, device)
    pair.train()
    ways: dict[str, Step] = {OURS: lambda: merge(pair.ours, "0")}
    undo: dict[str, Step] = {OURS: lambda: unmerge(pair.ours)}
    if pair.peft:
        ways[PEER], undo[PEER] = pair.peft.merge_adapter, pair.peft.unmerge_adapter
    if back:
        timings = interleave(undo, rounds, device=device, before=ways)
    else:
        ways[FLOOR] = partial(_sums, pair)
        timings = interleave(ways, rounds, device=device, after=undo)
    reached = ratio(timings[OURS], timings[PEER]).middle if pair.peft else None
    return Row(str(case), _shown(timings), case.goal, reached)


def measure_bits(case: Case, rounds: int, device: str) -> Row:
    """The share of the base's weights that merging and unmerging changed."""
    del rounds
    pair = Pair(case, device)
    pair.train()
    theirs = copy.deepcopy(pair.peft)
    for _ in range(case.cycles):
        merge(pair.ours, "0")
        unmerge(pair.ours)
        if theirs:
            theirs.merge_adapter()
            theirs.unmerge_adapter()
    shares = {OURS: changed(pair.base, pair.ours, pair.plan)}
    if theirs:
        shares[PEER] = changed(pair.base, theirs.get_base_model(), pair.plan)
    shown = {name: Amount(100 * share, "%") for name, share in shares.items()}
    return Row(str(case), shown, case.goal, shares[OURS])


def measure_register(case: Case, rounds: int, device: str) -> Row:
    """Many adapters on one base: time and memory of each, factors and Python's objects."""
    del rounds
    pair = Pair(case, device, adapters=0)
    names = itertools.count()

    def register() -> None:
        for _ in range(case.present):
            pair.inject(str(next(names)))

    timing = interleave({OURS: register}, 1, warmup=0, device=device)[OURS]
    few = max(1, case.present // 100)
    tracemalloc.start()
    try:
        for _ in range(few):
            pair.inject(str(next(names)))
        objects = tracemalloc.get_traced_memory()[0] / few
    finally:
        tracemalloc.stop()
    held = sum(p.nbytes for _, p in trained_parameters(pair.ours, "0"))
    shown = {
        OURS: _ms(1000 * timing.median / case.present),
        "lorakit, memory": Amount((objects + held) / 1000, "kB"),
        "factors alone": Amount(held / 1000, "kB"),
    }
    return Row(str(case), shown)


def measure_forward(case: Case, rounds: int, device: str) -> Row:
    """A forward with many adapters registered and one active, over one with that one alone."""
    alone, many = Pair(case, device, adapters=0), Pair(case, device, adapters=0)
    alone.inject("0")
    for number in range(case.present):
        many.inject(str(number))
    given = batch(case.shape, alone.base)
    ways = {
        name: partial(_forward, pair.ours.eval(), given)
        for name, pair in ((FLOOR, alone), (OURS, many))
    }
    timings = interleave(ways, rounds, device=device)
    shown: dict[str, Ratio | Amount] = {OURS: ratio(timings[OURS], timings[FLOOR])}
    return Row(str(case), shown, case.goal, ratio(timings[OURS], timings[FLOOR]).middle)


STAGES: Mapping[str, Callable[[Case, int, str], Row]] = {
    "inject": measure_inject,
    "load, foreign": partial(measure_load, proved=False),
    "load, proved": partial(measure_load, proved=True),
    "save": measure_save,
    "activate": partial(measure_switch, inside=False),
    "use": partial(measure_switch, inside=True),
    "merge": partial(measure_merge, back=False),
    "unmerge": partial(measure_merge, back=True),
    "bits": measure_bits,
    "register": measure_register,
    "forward": measure_forward,
}


def changed(before: nn.Module, after: nn.Module, paths: Mapping[str, Any]) -> float:
    """The share of the weights at the paths whose bits differ between two models."""
    weights = [_weights(before.get_submodule(p), after.get_submodule(p)) for p in paths]
    differ = sum(int(torch.ne(one, two).sum()) for one, two in weights)
    return differ / sum(one.numel() for one, _ in weights)


def _weights(*layers: nn.Module) -> list[Any]:
    return [getattr(layer, "base_layer", layer).weight for layer in layers]


@torch.no_grad()
def _forward(model: nn.Module, given: Mapping[str, torch.Tensor]) -> None:
    for _ in range(AGAIN // 10):
        model(input_ids=given["input_ids"])


def _sums(pair: Pair) -> list[torch.Tensor]:
    """Every merged weight by the formula, kept as a merge keeps them."""
    state, dtype = capture(pair.ours, "0"), DTYPES[pair.case.precision]
    wide = torch.float64 if dtype == torch.float32 else torch.float32
    made = []
    for path, low in state.low_rank.items():
        weight = pair.ours.get_submodule(path).weight
        A, B = low.A.to(weight.device, wide), low.B.to(weight.device, wide)
        made.append((weight.detach().to(wide) + B @ A * state.scale(low)).to(dtype))
    return made


def _shown(timings: Mapping[str, Timing]) -> dict[str, Ratio | Amount]:
    return {name: _ms(1000 * timing.median) for name, timing in timings.items()}


def _ms(number: float) -> Amount:
    return Amount(number, "ms")
