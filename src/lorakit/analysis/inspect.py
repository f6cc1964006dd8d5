"""`inspect`: what an adapter is, from its folder alone or on a model."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import nn

from lorakit.core.errors import shortlist
from lorakit.core.state import AdapterState, LowRankState, capture
from lorakit.formats.content import Options
from lorakit.formats.load import read_adapter
from lorakit.formats.packing import folded

# Beginnings of the keys under which image tools tell trigger words, base and course of a training.
_FACTS = (
    "modelspec.trigger_phrase", "modelspec.title", "modelspec.architecture", "ss_base_model",
    "ss_sd_model_name", "ss_epoch", "ss_learning_rate", "ss_network_", "ss_num_train_images",
    "ss_output_name", "ss_steps", "ss_tag_frequency", "ss_training_comment",
)  # fmt: skip


@dataclass(frozen=True)
class Layer:
    """One low-rank update: shape of the layer, rank, scale, and the Frobenius norm of its delta."""

    path: str
    columns: int
    rows: int
    rank: int
    scale: float
    norm: float


@dataclass(frozen=True)
class Inspection:
    """What is in one adapter."""

    name: str
    method: str
    parameters: int
    bytes: int
    rslora: bool
    dropout: float
    bias: str
    layers: list[Layer]
    extras: list[str]
    biases: list[str]
    base: dict[str, Any] = field(default_factory=dict)
    run: dict[str, Any] = field(default_factory=dict)
    format: str = "peft"
    assumed: str = ""
    dead: list[str] = field(default_factory=list)
    told: dict[str, str] = field(default_factory=dict)
    added: list[str] = field(default_factory=list)  # what methods that are not low-rank act on

    def as_dict(self) -> dict[str, Any]:
        """The inspection as JSON, without the long parts of base and run."""
        found = asdict(self)
        found["base"] = {k: v for k, v in self.base.items() if k in ("name", "class", "task")}
        found["run"] = {k: v for k, v in self.run.items() if k in ("metrics", "labels")}
        return found

    def __str__(self) -> str:
        kind = "" if self.format == "peft" else f" ({self.format})"
        ranks = sorted({layer.rank for layer in self.layers})
        scales = sorted({layer.scale for layer in self.layers})
        lines = [
            f"{self.name}{kind}: {self.method}, {self.parameters:,} parameters, "
            f"{self.bytes / 1e6:.2f} MB",
        ]
        if self.layers:
            lines.append(
                f"  layers  {len(self.layers)}, rank {_span(ranks)}, scale {_span(scales)}"
                + (" (rsLoRA)" if self.rslora else "")
            )
        if self.added:
            lines.append(f"  acts on {shortlist(self.added)}")
        if self.base.get("name"):
            lines.append(f"  base    {self.base['name']}")
        if self.extras:
            lines.append(f"  trained in full: {shortlist(self.extras)}")
        if self.biases:
            lines.append(f"  biases  {len(self.biases)}")
        if self.assumed:
            lines.append(f"  assumed {self.assumed}")
        if self.dead:
            lines.append(
                f"  dead    {len(self.dead)} modules change nothing: {shortlist(self.dead)}"
            )
        lines += [f"  told    {key}: {value}" for key, value in self.told.items()]
        told = self.run.get("metrics")
        metrics = {k: v for k, v in told.items() if _number(v)} if isinstance(told, dict) else {}
        if metrics:
            shown = ", ".join(f"{key} {value:.4g}" for key, value in metrics.items())
            lines.append(f"  run     {shown}")
        return "\n".join(lines)

    def table(self) -> str:
        """Every layer, the largest change first."""
        ordered = sorted(self.layers, key=lambda layer: -layer.norm)
        width = max((len(layer.path) for layer in ordered), default=5)
        head = f"{'layer':<{width}}  {'shape':>13}  rank  {'scale':>7}  {'|delta|':>9}"
        rows = [
            f"{x.path:<{width}}  {f'{x.rows} x {x.columns}':>13}  {x.rank:>4}  {x.scale:>7.4g}  "
            f"{x.norm:>9.3g}"
            for x in ordered
        ]
        return "\n".join([head, *rows])


def inspect(what: str | os.PathLike | nn.Module) -> Inspection | list[Inspection]:
    """What is in an adapter's folder or file, of any format; or in all on a model, as a list."""
    if isinstance(what, nn.Module):
        from lorakit.core.inject import adapters

        return [_inspection(name, capture(what, name)) for name in adapters(what)]
    options = Options(alpha=1.0, guess=True)
    return _inspection(os.fspath(what), read_adapter(what, options=options, pickles=True))


def delta_norm(low: LowRankState, scale: float) -> float:
    """|scale B A| (Frobenius) without forming B A: its square is the trace of (B^T B)(A A^T)."""
    plain = folded(low)
    A, B = plain.A.double(), plain.B.double()
    square = torch.sum((B.mT @ B) * (A @ A.mT))
    return abs(scale) * float(square.clamp_min(0).sqrt())


def _inspection(name: str, state: AdapterState) -> Inspection:
    tensors = state.tensors().values()
    layers = []
    for path, low in state.low_rank.items():
        scale = state.scale(low)
        rows, columns = low.B.shape[-2], low.A.shape[-1]
        layers.append(Layer(path, columns, rows, low.rank, scale, delta_norm(low, scale)))
    manifest = state.origin.get("manifest") or {}
    return Inspection(
        name=name,
        method=state.method,
        parameters=sum(value.numel() for value in state.own()),
        bytes=sum(value.numel() * value.element_size() for value in tensors),
        rslora=state.rslora,
        dropout=state.dropout,
        bias=state.bias,
        layers=layers,
        extras=list(state.extras),
        biases=list(state.biases),
        base=manifest.get("base") or state.base,
        run=manifest.get("run") or {},
        format=state.origin.get("format", "peft"),
        assumed="alpha 1, which the file does not say" * _guessed(state),
        dead=[layer.path for layer in layers if layer.norm == 0],
        told=_told(state.origin.get("metadata", {})),
        added=list(state.parameters),
    )


def _guessed(state: AdapterState) -> bool:
    kinds = ("loralib", "torchtune", "litgpt")  # formats without alpha
    return state.origin.get("guess", False) and state.origin.get("format") in kinds


def _told(metadata: dict[str, str]) -> dict[str, str]:
    """What a file's own metadata say of its training, without the long parts."""
    known = {key: value for key, value in metadata.items() if key.startswith(_FACTS)}
    return {key: value for key, value in sorted(known.items()) if value and len(value) <= 120}


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _span(values: Iterable[float]) -> str:
    listed = list(values)
    if not listed:
        return "none"
    low, high = min(listed), max(listed)
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"
