"""Memory: what an adapter saves in training and on disk (Hu et al. 2021, section 4.2)."""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from lorakit.analysis.cost import cost
from lorakit.bench.bases import DTYPES, Shape, batch, make
from lorakit.bench.memory import saved_bytes
from lorakit.bench.peak import peak_bytes
from lorakit.bench.ways import Choice, full, ours
from lorakit.core.errors import LorakitError
from lorakit.core.inject import adapters
from lorakit.core.registry import root_of
from lorakit.core.site import base_parameters
from lorakit.formats.save import save
from lorakit.models.load import pick_device, quiet
from lorakit.models.plan import plan
from lorakit.study.figures import Axis, Picture, Series, bars, lines
from lorakit.study.kinds import Cell, Figures, Record, Setting, Shown
from lorakit.study.options import one_of
from lorakit.study.table import Column, Table

FULL = "full fine-tuning"
MB = 1e6


class Memory:
    """One training step of the base in full, and with LoRA at several ranks and places."""

    name = "memory"
    trains = False
    title = "Memory: what an adapter saves in training and on disk"
    grows = ("ranks", "targets")
    why = (
        "How much less does LoRA train, keep and hold than full fine-tuning? The paper reports "
        "10,000 times smaller checkpoints and a third of the memory for GPT-3 175B with rank 4 on "
        "query and value (Hu et al. 2021, section 4.2)."
    )

    def options(self, *, quick: bool) -> dict[str, Any]:
        """`rows` and `length` are the batch's; `targets` are lists of what is adapted together."""
        return {
            "ranks": [1, 8] if quick else [1, 4, 16, 64],
            "targets": [["q", "v"], ["all-linear"]],
            "rows": 2 if quick else 8, "length": 64 if quick else 128, "precision": "fp32",
            "device": "cpu",
        }  # fmt: skip

    def cells(self, setting: Setting) -> list[Cell]:
        """The base in full, then every rank at every choice of places."""
        one_of(setting, "precision", DTYPES)
        return [
            Cell({"way": FULL}),
            *(
                Cell({"way": "LoRA", "targets": list(targets), "rank": rank})
                for targets in setting.option("targets")
                for rank in setting.option("ranks")
            ),
        ]

    def group(self, cell: Cell) -> Hashable:
        """Each alone."""
        return cell.key

    def measure(
        self, cells: Sequence[Cell], setting: Setting, folder: Path
    ) -> Iterator[Figures | LorakitError]:
        """Bytes and parameters, counted on the tensors and files themselves."""
        for cell in cells:
            yield _measured(cell.settings, setting)
            gc.collect()  # models hold themselves in circles

    def show(self, records: Sequence[Record], setting: Setting) -> Shown:
        """What each way takes, and its share of full fine-tuning."""
        full = next((own for own in records if own.settings["way"] == FULL), None)
        lora = [own for own in records if own is not full]
        columns = [
            Column("way"), Column("rank"), Column("trained parameters"),
            Column("of full", "%", digits=2), Column("checkpoint", "MB", digits=3),
            Column("times smaller", digits=0),
            Column("weights, gradients, optimiser", "MB", digits=1),
            Column("forecast", "MB", digits=1), Column("kept for backward", "MB", digits=1),
            Column("peak of a step", "MB", digits=1, best="low"),
        ]  # fmt: skip
        rows = [_row(own, full) for own in records]
        notes = [
            f"A step of {setting.option('rows')} x {setting.option('length')} tokens in "
            f"{setting.option('precision')}, AdamW. Peak: weights, optimiser state and the most "
            "that the step has at once beside them; counted by torch's allocator, which gives the "
            "same figure in every run. Kept for backward: activations. Checkpoint: the file of "
            "trained weights. Forecast: weights, gradients and optimiser as `lorakit plan` says.",
        ]
        table = Table("memory", "Memory and size, by what is trained", columns, rows, notes)
        pictures = [_stacks(records)]
        if lora:
            pictures.append(_sizes(lora, full))
        return Shown(_findings(lora, full), [table], pictures)


def _measured(settings: dict[str, Any], setting: Setting) -> Figures:
    shape = Shape(
        rows=setting.option("rows"), length=setting.option("length"), folder=setting.model
    )
    device = str(pick_device(setting.option("device")))
    base = make(shape, DTYPES[setting.option("precision")], device)
    given = batch(shape, base)
    choice = Choice(tuple(settings.get("targets", ())), settings.get("rank", 0))
    planned = plan(base, targets=list(choice.targets), rank=choice.rank) if choice.rank else {}
    known = cost(base, planned, weight_bytes=base.dtype.itemsize)
    forecast = known.training_bytes if choice.rank else known.full_training_bytes
    model, trained = (ours if choice.rank else full)(base, choice)
    optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=model.device.type in ("cpu", "cuda"))

    def step() -> None:
        model(**given)["loss"].backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    step()  # makes the optimiser's state
    weights = sum(_bytes(value) for value in base_parameters(root_of(model)).values())
    gradients = sum(_bytes(value) for value in trained)
    state = sum(
        _bytes(value)
        for kept in optimizer.state.values()
        for value in kept.values()
        if isinstance(value, torch.Tensor)
    )
    adapter = 0 if settings["way"] == FULL else gradients
    return {
        "parameters": sum(value.numel() for value in trained),
        "base_parameters": sum(v.numel() for v in base_parameters(root_of(model)).values()),
        "checkpoint_bytes": _checkpoint(model),
        "weight_bytes": weights + adapter,
        "gradient_bytes": gradients,
        "optimiser_bytes": state,
        "step_bytes": peak_bytes(step, device),
        "kept_bytes": saved_bytes(step, model),
        "forecast_bytes": forecast,
    }


def _checkpoint(model: Any) -> int:
    """The bytes of the weights' files as they are saved: of the adapter, or of all of it."""
    with tempfile.TemporaryDirectory() as folder:
        if adapters(model):
            save(model, Path(folder) / "adapter")
        else:
            with quiet():
                model.save_pretrained(folder)
        return sum(file.stat().st_size for file in Path(folder).rglob("*.safetensors"))


def _bytes(value: torch.Tensor) -> int:
    return value.numel() * value.element_size()


def _peak(record: Record) -> float:
    """Everything at once, in bytes: the step's own most has its gradients in it."""
    own = record.figures
    return own["weight_bytes"] + own["optimiser_bytes"] + own["step_bytes"]


def _row(record: Record, full: Record | None) -> list[Any]:
    own = record.figures
    way, rank = _name(record), record.settings.get("rank")
    smaller = full.figures["checkpoint_bytes"] / own["checkpoint_bytes"] if full else None
    return [
        way, rank, own["parameters"], 100 * own["parameters"] / own["base_parameters"],
        own["checkpoint_bytes"] / MB, smaller,
        (own["weight_bytes"] + own["gradient_bytes"] + own["optimiser_bytes"]) / MB,
        own["forecast_bytes"] / MB, own["kept_bytes"] / MB, _peak(record) / MB,
    ]  # fmt: skip


def _name(record: Record) -> str:
    if record.settings["way"] == FULL:
        return FULL
    return f"LoRA on {', '.join(record.settings['targets'])}"


def _findings(lora: Sequence[Record], full: Record | None) -> list[str]:
    if full is None or not lora:
        return []
    least = min(lora, key=lambda own: own.figures["parameters"])
    figures = least.figures
    share = full.figures["parameters"] / figures["parameters"]
    smaller = full.figures["checkpoint_bytes"] / figures["checkpoint_bytes"]
    less = full.figures["optimiser_bytes"] / figures["optimiser_bytes"]
    return [
        f"{_name(least)} with rank {least.settings['rank']} trains {share:,.0f} times fewer "
        f"parameters than full fine-tuning; its checkpoint is {smaller:,.0f} times smaller, its "
        f"optimiser's state {less:,.0f} times, and the peak of a step is "
        f"{_peak(least) / _peak(full):.0%} of that of full fine-tuning. A larger base has a larger "
        "share of its memory in what is saved here."
    ]


def _stacks(records: Sequence[Record]) -> Picture:
    """Where a step's memory goes, for each way."""
    names = [
        "full" if own.settings["way"] == FULL
        else f"{', '.join(own.settings['targets'])}, r {own.settings['rank']}"
        for own in records
    ]  # fmt: skip
    series = [
        Series("weights", [own.figures["weight_bytes"] / MB for own in records]),
        Series("optimiser", [own.figures["optimiser_bytes"] / MB for own in records]),
        Series("the step: activations and gradients",
               [own.figures["step_bytes"] / MB for own in records]),
    ]  # fmt: skip
    caption = "Memory at the peak of a training step, by what it holds."
    return bars("memory", caption, names, Axis("memory (MB)"), series, stacked=True)


def _sizes(lora: Sequence[Record], full: Record | None) -> Picture:
    """Checkpoints over ranks."""
    ranks = sorted({own.settings["rank"] for own in lora})
    series = []
    for places in dict.fromkeys(_name(own) for own in lora):
        sizes = {
            own.settings["rank"]: own.figures["checkpoint_bytes"] / MB
            for own in lora
            if _name(own) == places
        }
        series.append(Series(places, [sizes.get(rank, float("nan")) for rank in ranks]))
    if full is not None:
        series.append(Series(FULL, [full.figures["checkpoint_bytes"] / MB] * len(ranks)))
    caption = "Size of the checkpoint over the rank; full fine-tuning saves every weight."
    axes = Axis("rank", log=True), Axis("checkpoint (MB)", log=True)
    return lines("checkpoints", caption, (axes[0], ranks), axes[1], series)
