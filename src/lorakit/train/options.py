"""What a recipe says about the adapter and its training."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from lorakit.tasks.options import Alpha, Count, Part, Positive, Rank, Share, Whole, number

# The methods of `lorakit.methods`, whose import takes long; a test compares the two.
LOW_RANK = ("lora", "adalora", "dora", "lora-fa", "vera")
BASELINES = ("full", "top", "bitfit", "norms", "houlsby", "pfeiffer", "parallel", "prefix",
             "prompt", "ia3", "probe")  # fmt: skip
SIZED = (*LOW_RANK, "top", "houlsby", "pfeiffer", "parallel", "prefix", "prompt")
Method = Literal[
    "lora", "adalora", "dora", "lora-fa", "vera", "full", "top", "bitfit", "norms", "houlsby",
    "pfeiffer", "parallel", "prefix", "prompt", "ia3", "probe",
]  # fmt: skip
FIXED = ("top", "probe")  # what they are is where they are
OF_ALL = ("rank", "targets", "extras")  # the fields of `lora` that other methods read, too


class LoraOptions(Part):
    """The adapter."""

    rank: Rank | dict[str, Rank] = Field(
        default=8, description="r, or pattern: r with the first match; the size of other methods"
    )
    params: Whole | None = Field(
        default=None, description="instead of `rank`: parameters to deal out as ranks"
    )
    by: Literal["gradient", "activation", "weight", "uniform"] = Field(
        default="gradient", description="what says where `params` are worth most"
    )
    alpha: Alpha | dict[str, Alpha] = Field(default=16.0, description="scale is alpha / r")
    targets: str | list[str] | None = Field(
        default=None, description="presets, roles, names or globs; else the method's own"
    )
    init: Literal["default", "pissa", "olora", "eva", "lora-ga", "loftq"] = Field(
        default="default", description="how A and B start"
    )
    init_rows: Whole = Field(
        default=64, description="training rows that eva, lora-ga and `by` look at"
    )
    dropout: Share = Field(default=0.0, description="dropout on the input of A")
    in_float32: bool = Field(
        default=False, description="multiply in float32 on a base in bf16 or fp16, as PEFT does"
    )
    rslora: bool = Field(default=False, description="scale by alpha / sqrt(r) instead")
    bias: Literal["none", "lora_only", "all"] = Field(
        default="none", description="biases trained as well"
    )
    extras: list[str] = Field(
        default=[], description="modules trained in full; a head that the base lacks is added"
    )


class TrainOptions(Part):
    """How it is trained."""

    steps: Whole | None = Field(default=None, description="optimiser steps; wins over `epochs`")
    epochs: Positive = Field(default=3.0, description="passes over the training rows")
    batch_size: Whole = Field(
        default=8, description="rows per step and device, before accumulation"
    )
    accumulate: Whole = Field(default=1, description="batches added up before each optimiser step")
    lr: Positive = Field(default=2e-4, description="peak learning rate")
    lora_plus: Positive = Field(
        default=1.0, description="learning rate of B over that of A, as in LoRA+"
    )
    schedule: Literal["linear", "cosine", "constant"] = Field(
        default="linear", description="decay of lr"
    )
    warmup: Share = Field(default=0.03, description="share of the steps in which lr rises")
    weight_decay: Annotated[float, BeforeValidator(number), Field(ge=0)] = Field(
        default=0.0, description="AdamW's weight decay"
    )
    clip: Annotated[float, BeforeValidator(number), Field(ge=0)] = Field(
        default=1.0, description="largest norm of the gradient; 0 is off"
    )
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        default="fp32", description="dtype of the base"
    )
    quantise: Literal["none", "nf4", "int8", "torchao-int8"] = Field(
        default="none", description="the base's linear layers in few bits: needs lorakit[quant]"
    )
    checkpointing: bool = Field(default=False, description="recompute activations to save memory")
    length_groups: bool = Field(default=False, description="batch rows of similar length")
    eval_every: Whole | None = Field(
        default=None, description="steps; else a tenth of the run, at least 10"
    )
    save_every: Whole | None = Field(
        default=None, description="steps; else a tenth of the run, at least 10"
    )
    keep: Whole = Field(default=2, description="checkpoints kept, besides the best")
    keep_best: bool = Field(
        default=True, description="end with the best evaluated state, not the last"
    )
    patience: Whole | None = Field(
        default=None, description="evaluations without gain before it stops"
    )
    eval_batch_size: Whole | None = Field(default=None, description="else as `batch_size`")
    device: str = Field(default="auto", description="auto, cpu, cuda or mps")
    seed: Count = Field(default=0, description="of weights, order and dropout")
