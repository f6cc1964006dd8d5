"""lorakit: low-rank adaptation of any PyTorch model, exact or with its error stated.

Importing this package is cheap: each name below loads what it needs when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Public name -> the module that defines it. Sorted; a test keeps it complete.
_PUBLIC = {
    "AdaLoRA": "methods.adalora",
    "BitFit": "methods.bitfit",
    "DoRA": "methods.dora",
    "EVA": "methods.eva",
    "Full": "methods.full",
    "Houlsby": "methods.bottleneck",
    "IA3": "methods.ia3",
    "LoRA": "methods.lora",
    "LoRAFA": "methods.lora_fa",
    "LoRAGA": "methods.lora_ga",
    "LoftQ": "methods.loftq",
    "LorakitError": "core.errors",
    "NormTuning": "methods.full",
    "Parallel": "methods.parallel",
    "Pfeiffer": "methods.bottleneck",
    "Plan": "core.plan",
    "PrefixTuning": "methods.prefix",
    "Probe": "methods.full",
    "PromptTuning": "methods.prompt",
    "Top": "methods.full",
    "VeRA": "methods.vera",
    "activate": "core.activate",
    "adapters": "core.inject",
    "allocate": "models.allocate",
    "combine": "analysis.combine",
    "convert": "formats.convert",
    "diff": "analysis.diff",
    "doctor": "analysis.doctor",
    "export_merged": "models.export",
    "extract": "models.extract",
    "inject": "methods.inject",
    "inspect": "analysis.inspect",
    "load": "formats.load",
    "merge": "core.merge",
    "merged": "core.merge",
    "plan": "models.plan",
    "remove": "core.inject",
    "resize": "analysis.resize",
    "save": "formats.save",
    "unmerge": "core.merge",
    "use": "core.activate",
}

if TYPE_CHECKING:
    from lorakit.analysis.combine import combine as combine
    from lorakit.analysis.diff import diff as diff
    from lorakit.analysis.doctor import doctor as doctor
    from lorakit.analysis.inspect import inspect as inspect
    from lorakit.analysis.resize import resize as resize
    from lorakit.core.activate import activate as activate
    from lorakit.core.activate import use as use
    from lorakit.core.errors import LorakitError as LorakitError
    from lorakit.core.inject import adapters as adapters
    from lorakit.core.inject import remove as remove
    from lorakit.core.merge import merge as merge
    from lorakit.core.merge import merged as merged
    from lorakit.core.merge import unmerge as unmerge
    from lorakit.core.plan import Plan as Plan
    from lorakit.formats.convert import convert as convert
    from lorakit.formats.load import load as load
    from lorakit.formats.save import save as save
    from lorakit.methods.adalora import AdaLoRA as AdaLoRA
    from lorakit.methods.bitfit import BitFit as BitFit
    from lorakit.methods.bottleneck import Houlsby as Houlsby
    from lorakit.methods.bottleneck import Pfeiffer as Pfeiffer
    from lorakit.methods.dora import DoRA as DoRA
    from lorakit.methods.eva import EVA as EVA
    from lorakit.methods.full import Full as Full
    from lorakit.methods.full import NormTuning as NormTuning
    from lorakit.methods.full import Probe as Probe
    from lorakit.methods.full import Top as Top
    from lorakit.methods.ia3 import IA3 as IA3
    from lorakit.methods.inject import inject as inject
    from lorakit.methods.loftq import LoftQ as LoftQ
    from lorakit.methods.lora import LoRA as LoRA
    from lorakit.methods.lora_fa import LoRAFA as LoRAFA
    from lorakit.methods.lora_ga import LoRAGA as LoRAGA
    from lorakit.methods.parallel import Parallel as Parallel
    from lorakit.methods.prefix import PrefixTuning as PrefixTuning
    from lorakit.methods.prompt import PromptTuning as PromptTuning
    from lorakit.methods.vera import VeRA as VeRA
    from lorakit.models.allocate import allocate as allocate
    from lorakit.models.export import export_merged as export_merged
    from lorakit.models.extract import extract as extract
    from lorakit.models.plan import plan as plan

__all__ = ["__version__", *_PUBLIC]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'lorakit' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"lorakit.{_PUBLIC[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
