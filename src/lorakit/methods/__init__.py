"""The methods and initialisers: one file each, and one line in these tables."""

from __future__ import annotations

from lorakit.core.errors import UnsupportedError, did_you_mean
from lorakit.methods.adalora import AdaLoRA
from lorakit.methods.bitfit import BitFit
from lorakit.methods.bottleneck import Houlsby, Pfeiffer
from lorakit.methods.dora import DoRA
from lorakit.methods.full import Full, NormTuning, Probe, Top
from lorakit.methods.ia3 import IA3
from lorakit.methods.lora import LoRA
from lorakit.methods.lora_fa import LoRAFA
from lorakit.methods.method import Method
from lorakit.methods.parallel import Parallel
from lorakit.methods.prefix import PrefixTuning
from lorakit.methods.prompt import PromptTuning
from lorakit.methods.vera import VeRA

LOW_RANK: tuple[type[LoRA], ...] = (LoRA, AdaLoRA, DoRA, LoRAFA, VeRA)
BASELINES: tuple[type[Method], ...] = (
    Full, Top, BitFit, NormTuning, Houlsby, Pfeiffer, Parallel, PrefixTuning, PromptTuning, IA3,
    Probe,
)  # fmt: skip
METHODS: dict[str, type[Method]] = {kind.name: kind for kind in (*LOW_RANK, *BASELINES)}


def method_named(name: str) -> type[Method]:
    """The method of this name, as files and recipes have it."""
    if name not in METHODS:
        raise UnsupportedError(
            f"The method {name!r} is not known; known are {', '.join(METHODS)}."
            + did_you_mean(name, METHODS)
        )
    return METHODS[name]
