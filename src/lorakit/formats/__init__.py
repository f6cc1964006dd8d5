"""Adapters on disk: one file for each format, and one line in `FORMATS`."""

from __future__ import annotations

from types import ModuleType

from lorakit.formats import cloneofsimo, diffusers, kohya, loralib, peft, vera, vllm

FORMATS: tuple[ModuleType, ...] = (vera, peft, kohya, diffusers, loralib, cloneofsimo, vllm)
