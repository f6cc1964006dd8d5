"""LoRA-FA: A stays as it was drawn and B alone is trained (Zhang et al. 2023, section 3).

The gradient of B needs the input only through A, so that a layer keeps rank numbers for each token
in the place of its whole input, and there is half as much to train.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lorakit.core.update import LowRank
from lorakit.layers.form import Form
from lorakit.methods.lora import LoRA
from lorakit.methods.start import Factors


@dataclass(frozen=True)
class LoRAFA(LoRA):
    """The options of LoRA-FA: those of LoRA."""

    name: ClassVar[str] = "lora-fa"

    def _low_rank(self, form: Form, factors: Factors, alpha: float) -> LowRank:
        update = super()._low_rank(form, factors, alpha)
        # An embedding's A is the factor that starts at zero: there B is the one that was drawn.
        (update.B if form.geometry.zero == "A" else update.A).requires_grad_(False)
        return update
