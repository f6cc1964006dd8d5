"""The support matrix: every method on every layer, base and dtype, proved by the laws or refused.

`row(name)` runs the laws 1 to 6 on the cells of one layer and base. A cell is "yes" where they hold
in every dtype, and "no" where the method refuses the layer by type and leaves no trace.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

import lorakit as lk
from families import build, inputs, quantised_layer, randomise
from lorakit.core.errors import UnsupportedError
from test_laws import DTYPES, assert_same, rounding, same_bits, snapshot

WAYS = ("nf4", "int8", "torchao-int8")
HALF_PRECISE = ("int8",)  # inputs are rounded to eight bits as well, and merged they are not
SLACK = 0.03  # of the largest output: what that rounding may part merged from unmerged


class Net(nn.Module):
    """A layer between two others, so that what goes in and out of it is like in a model."""

    def __init__(self, layer: nn.Module, first: nn.Module, last: nn.Module):
        super().__init__()
        self.first, self.layer, self.last = first, layer, last

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The layer's answer, seen through the last one."""
        return self.last(self.layer(self.first(x)))


class Tied(nn.Module):
    """A table of embeddings and a head that share one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.inner = nn.Embedding(11, 8), nn.Linear(8, 8)
        self.head = nn.Linear(8, 11, bias=False)
        self.head.weight = self.table.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores of the vocabulary."""
        return self.head(self.inner(self.table(x)).tanh())


class Attention(nn.Module):
    """PyTorch's own attention, which reads its weights without calling its layers."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Attention of x to itself."""
        return self.attention(x, x, x)[0]


@dataclass(frozen=True)
class Row:
    """One line of the matrix: how its model is made, what is called with what, and what adapted."""

    model: Callable[[], nn.Module]
    batch: Callable[[nn.Module], Any]
    targets: Any
    quantised: str = ""
    extras: tuple[str, ...] = ()
    bias: str = "none"
    noise: float = 0.3


def _net(layer: Callable[[], nn.Module], *, ends: tuple | None = None) -> Callable[[], nn.Module]:
    first, last = ends or (lambda: nn.Linear(8, 8), lambda: nn.Linear(8, 5))
    return lambda: Net(layer(), first(), last())


def _numbers(*shape: int) -> Callable[[nn.Module], Any]:
    def made(model: nn.Module) -> torch.Tensor:
        dtype = next(p.dtype for p in model.parameters() if p.is_floating_point())
        return torch.randn(4, *shape, generator=torch.Generator().manual_seed(0)).to(dtype)

    return made


def _ids(_: nn.Module) -> torch.Tensor:
    return torch.arange(12).view(4, 3) % 11


def _same(channels: int, of: Callable[..., nn.Module]) -> tuple:
    return (lambda: of(2, channels, 1), lambda: of(channels, 3, 1))


def _text(family: str) -> dict[str, Any]:
    return {"model": lambda: build(family), "batch": lambda model: inputs(model, rows=4)}


def _linear() -> nn.Module:
    return Net(nn.Linear(64, 64), nn.Linear(8, 64), nn.Linear(64, 5))


def _quantised(how: str) -> Row:
    return Row(_linear, _numbers(3, 8), ["layer"], quantised=how)


ROWS: dict[str, Row] = {
    "Linear": Row(_linear, _numbers(3, 8), ["layer"]),
    **{f"Linear, {how}": _quantised(how) for how in WAYS},
    "Conv1D of GPT-2": Row(**_text("gpt2"), targets=["up", "down"], noise=0.05),
    "parts of a fused layer": Row(**_text("gpt2"), targets=["q", "v"]),
    **{
        f"parts of a fused layer, {how}": Row(**_text("gpt2"), targets=["q", "v"], quantised=how)
        for how in WAYS
    },
    "Embedding": Row(
        _net(lambda: nn.Linear(8, 8), ends=(lambda: nn.Embedding(11, 8), lambda: nn.Linear(8, 5))),
        _ids, ["first"],
    ),
    "Embedding, tied to the head": Row(Tied, _ids, ["table"]),
    "head, tied to the Embedding": Row(Tied, _ids, ["head"]),
    "Conv1d": Row(
        _net(lambda: nn.Conv1d(6, 6, 3, padding=1), ends=_same(6, nn.Conv1d)), _numbers(2, 7),
        ["layer"],
    ),
    "Conv2d": Row(
        _net(lambda: nn.Conv2d(6, 6, 3, stride=2), ends=_same(6, nn.Conv2d)), _numbers(2, 7, 7),
        ["layer"],
    ),
    "Conv2d, groups": Row(
        _net(lambda: nn.Conv2d(6, 6, 3, groups=3), ends=_same(6, nn.Conv2d)), _numbers(2, 7, 7),
        ["layer"],
    ),
    "Conv3d": Row(
        _net(lambda: nn.Conv3d(6, 6, 3, dilation=2), ends=_same(6, nn.Conv3d)),
        _numbers(2, 5, 5, 5), ["layer"],
    ),
    "LayerNorm": Row(_net(lambda: nn.LayerNorm(8)), _numbers(3, 8), ["layer"]),
    "RMSNorm": Row(_net(lambda: nn.RMSNorm(8)), _numbers(3, 8), ["layer"]),
    "GroupNorm": Row(
        _net(lambda: nn.GroupNorm(2, 6), ends=_same(6, nn.Conv1d)), _numbers(2, 7), ["layer"]
    ),
    "fused experts": Row(**_text("mixtral"), targets=["experts"], noise=0.08),
    "MultiheadAttention": Row(Attention, _numbers(3, 8), ["attention"]),
    "its out_proj": Row(Attention, _numbers(3, 8), ["attention.out_proj"]),
    "Linear and its bias": Row(_linear, _numbers(3, 8), ["layer"], bias="lora_only"),
    "Linear and its bias, nf4": Row(
        _linear, _numbers(3, 8), ["layer"], bias="lora_only", quantised="nf4"
    ),
    "Linear and a module in full": Row(_linear, _numbers(3, 8), ["layer"], extras=("last",)),
    "Linear, nf4, and a module in full": Row(
        _linear, _numbers(3, 8), ["layer"], extras=("last",), quantised="nf4"
    ),
}  # fmt: skip


def _loss(output: Any) -> torch.Tensor:
    return _tensor(output).float().square().mean()


# Method -> its options for a model; `full` is the same model before it was quantised.
METHODS: dict[str, Callable[..., lk.LoRA]] = {
    "LoRA": lambda **given: lk.LoRA(alpha=6, **given),
    "rsLoRA": lambda **given: lk.LoRA(alpha=6, rslora=True, **given),
    "DoRA": lambda **given: lk.DoRA(alpha=6, **given),
    "LoRA-FA": lambda **given: lk.LoRAFA(alpha=6, **given),
    "AdaLoRA": lambda **given: lk.AdaLoRA(alpha=6, **given),
    "VeRA": lambda **given: lk.VeRA(**given),
    "PiSSA": lambda **given: lk.LoRA(alpha=6, init="pissa", **given),
    "OLoRA": lambda **given: lk.LoRA(alpha=6, init="olora", **given),
    "EVA": lambda **given: lk.LoRA(alpha=6, **given),
    "LoRA-GA": lambda **given: lk.LoRA(alpha=6, **given),
    "LoftQ": lambda **given: lk.LoRA(alpha=6, **given),
}


def row(name: str) -> dict[str, str]:
    """Method -> "yes" or "no" for one layer and base, after the laws ran in every dtype."""
    found: dict[str, str] = {}
    for method in METHODS:
        cells = {dtype: cell(ROWS[name], method, dtype) for dtype in DTYPES}
        answers = set(cells.values())
        found[method] = answers.pop() if len(answers) == 1 else str(cells)
    return found


def cell(line: Row, method: str, dtype: str) -> str:
    """ "yes" after all laws held, "no" after a refusal by type that left no trace."""
    model, full = made(line, DTYPES[dtype])
    batch = line.batch(model)
    given: dict[str, Any] = {"extras": line.extras, "bias": line.bias}
    if method in ("EVA", "LoRA-GA", "LoftQ"):
        given["init"] = {
            "EVA": lk.EVA([batch]), "LoRA-GA": lk.LoRAGA([batch], loss=_loss),
            "LoftQ": lk.LoftQ(full),
        }[method]  # fmt: skip
    before, base = snapshot(model), run(model, batch)
    torch.manual_seed(0)
    try:
        plan = lk.plan(model, line.targets, 2)
        lk.inject(model, plan, method=METHODS[method](**given))
    except UnsupportedError:
        assert_same(before, snapshot(model))
        return "no"
    if method != "LoftQ":  # whose purpose it is to start elsewhere
        assert same_bits(run(model, batch), base), "law 1: a fresh adapter changed the answers"
    weaker = {"VeRA": 5, "AdaLoRA": 3}.get(method, 1)  # whose vectors multiply each other
    randomise(model, "default", scale=line.noise * weaker)
    _laws(line, model, batch, base, DTYPES[dtype])
    lk.remove(model, "default")
    assert_same(before, snapshot(model))
    assert same_bits(run(model, batch), base), "law 4: a removed adapter left a trace"
    return "yes"


def _laws(line: Row, model: nn.Module, batch: Any, base: torch.Tensor, dtype: torch.dtype) -> None:
    expected, before = run(model, batch), snapshot(model)
    slack = SLACK if line.quantised in HALF_PRECISE else 0.0
    bound = rounding(dtype, expected) + slack * float(expected.abs().max())
    assert (expected - base).abs().max() > 2 * bound, "the cell is too weak"
    with lk.merged(model):
        gap = (run(model, batch) - expected).abs().max()
    assert gap <= bound, f"law 2: merged and unmerged differ by {gap}"
    for _ in range(3):
        lk.merge(model)
        lk.unmerge(model)
    assert_same(before, snapshot(model))  # law 3
    with lk.use(model, per_sample=["default", None, "default", None]):
        mixed = run(model, batch)
    for place in range(4):
        alone = (expected, base)[place % 2][place]
        assert (mixed[place] - alone).abs().max() <= bound, "law 5: a row got another's answer"
    with tempfile.TemporaryDirectory() as folder:
        lk.save(model, Path(folder) / "adapter")
        other, _ = made(line, dtype)
        lk.load(other, Path(folder) / "adapter")
    assert same_bits(run(other, batch), expected), "law 6: what was loaded answers otherwise"


def made(line: Row, dtype: torch.dtype) -> tuple[nn.Module, nn.Module]:
    """The row's model, quantised where it says so, and the same in full."""
    models = []
    for how in (line.quantised, ""):
        torch.manual_seed(0)
        model = line.model().to(dtype)
        if isinstance(model, Net) and how:
            model.layer = quantised_layer(model.layer, how)
        elif how:
            for block in model.transformer.h:
                block.attn.c_attn = quantised_layer(block.attn.c_attn, how)
        models.append(model.eval())
    return models[0], models[1]


def run(model: nn.Module, batch: Any) -> torch.Tensor:
    """What the model answers."""
    with torch.no_grad():
        return _tensor(model(**batch) if isinstance(batch, dict) else model(batch))


def _tensor(output: Any) -> torch.Tensor:
    return output if isinstance(output, torch.Tensor) else output.logits


def table() -> str:
    """The matrix as Markdown."""
    lines = [f"| layer | {' | '.join(METHODS)} |", "|---|" + "---|" * len(METHODS)]
    for name in ROWS:
        answers = row(name)
        lines.append(f"| {name} | {' | '.join(answers[method] for method in METHODS)} |")
    return "\n".join(lines)
