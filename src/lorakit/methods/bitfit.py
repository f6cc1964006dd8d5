"""BitFit: the biases are trained and nothing else (Ben Zaken et al. 2022, section 3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from lorakit.core.errors import PlanError
from lorakit.core.site import module_at
from lorakit.methods.full import Full
from lorakit.methods.method import Updates
from lorakit.methods.whole import check_biased, shifted_bias


@dataclass(frozen=True)
class BitFit(Full):
    """The options of BitFit."""

    name: ClassVar[str] = "bitfit"
    targets: ClassVar[tuple[str, ...]] = ("biases",)
    bias: ClassVar[str] = "all"  # what PEFT calls biases beyond those of adapted layers

    def make(self, root: nn.Module, sizes: Mapping[str, int]) -> Updates:
        """The bias of each layer. Raises `PlanError` for a layer that has none."""
        for path in sizes:
            layer = module_at(root, path)
            if not isinstance(getattr(layer, "bias", None), nn.Parameter):
                raise PlanError(f"{path!r} has no bias to train. Leave it out of the plan.")
            check_biased(layer, path)
        return {path: {"bias": shifted_bias(root, path, self.dtype)} for path in sizes}
