"""Adapters on disk: one file for each format, and one line in `FORMATS`."""

from __future__ import annotations

from types import ModuleType

from lorakit.formats import (
    cloneofsimo,
    diffusers,
    gguf,
    kohya,
    litgpt,
    loralib,
    own,
    peft,
    torchtune,
    vera,
    vllm,
)

FORMATS: tuple[ModuleType, ...] = (
    own, vera, peft, gguf, kohya, diffusers, torchtune, litgpt, loralib, cloneofsimo, vllm
)  # fmt: skip
