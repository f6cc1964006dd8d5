"""Fine-tuning of the base's own parameters: all, the top blocks, or the head alone.

A target is a module, trained as a copy that answers in its place while the adapter acts, so that
the base stays as it is and several fully tuned models can share it. Where the copy answers, the
module itself does not run; its weights are held beside the copy's, though.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from lorakit.core.errors import PlanError
from lorakit.core.site import module_at
from lorakit.layers.norm import is_norm
from lorakit.methods.method import Baseline, Updates
from lorakit.methods.whole import in_full


@dataclass(frozen=True)
class Full(Baseline):
    """The options of full fine-tuning."""

    name: ClassVar[str] = "full"
    targets: ClassVar[tuple[str, ...]] = ("everything",)
    size: ClassVar[str] = ""

    @classmethod
    def words(cls, size: int) -> tuple[tuple[str, ...], int]:
        """Every module, as it is: there is no size."""
        del size
        return cls.targets, 1

    def make(self, root: nn.Module, sizes: Mapping[str, int]) -> Updates:
        """A copy of each module."""
        return in_full(root, sizes, self.dtype)


@dataclass(frozen=True)
class Top(Full):
    """The options of tuning the last blocks alone, "FT Top2" in Hu et al. 2021, table 3."""

    name: ClassVar[str] = "top"
    targets: ClassVar[tuple[str, ...]] = ("top-2",)
    size: ClassVar[str] = "blocks"

    @classmethod
    def words(cls, size: int) -> tuple[tuple[str, ...], int]:
        """Everything in the last `size` blocks."""
        return (f"top-{size}",), 1


@dataclass(frozen=True)
class Probe(Full):
    """The options of a linear probe: the head is trained on what the frozen base gives."""

    name: ClassVar[str] = "probe"
    targets: ClassVar[tuple[str, ...]] = ("head",)


@dataclass(frozen=True)
class NormTuning(Full):
    """The options of tuning scale and shift of the norms alone (Qi et al. 2022, section 3)."""

    name: ClassVar[str] = "norms"
    targets: ClassVar[tuple[str, ...]] = ("norms",)

    def make(self, root: nn.Module, sizes: Mapping[str, int]) -> Updates:
        """A change of each norm. Raises `PlanError` for a module that is none."""
        for path in sizes:
            if not is_norm(module_at(root, path)):
                raise PlanError(
                    f"{path!r} is no norm, and norm tuning trains nothing else. Leave it out of "
                    "the plan, or take full fine-tuning, which trains any module."
                )
        return super().make(root, sizes)
