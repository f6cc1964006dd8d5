"""The methods and initialisers: one file each, and one line in these tables."""

from __future__ import annotations

from lorakit.core.errors import UnsupportedError
from lorakit.methods.adalora import AdaLoRA
from lorakit.methods.dora import DoRA
from lorakit.methods.lora import LoRA
from lorakit.methods.lora_fa import LoRAFA
from lorakit.methods.vera import VeRA

METHODS: dict[str, type[LoRA]] = {kind.name: kind for kind in (LoRA, AdaLoRA, DoRA, LoRAFA, VeRA)}


def method_named(name: str) -> type[LoRA]:
    """The method of this name, as files and recipes have it."""
    if name not in METHODS:
        raise UnsupportedError(f"The method {name!r} is not known; known are {', '.join(METHODS)}.")
    return METHODS[name]
