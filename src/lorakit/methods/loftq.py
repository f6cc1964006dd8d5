"""LoftQ: the factors start at what quantising the base took away.

s B A is the best approximation of its rank of W - Q, where Q is the quantised weight and W what it
was made from (Li et al. 2023, equation 6). This is one round of the paper's: more would change Q,
which other adapters and other people's copies of the base share. So a fresh adapter does change the
function, towards that of the base in full precision.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from lorakit.core.errors import PlanError, UnsupportedError
from lorakit.core.registry import root_of
from lorakit.methods import pissa
from lorakit.methods.start import Factors, Places, check_finite, check_ranks


@dataclass(frozen=True, eq=False)
class LoftQ:
    """Start at what quantising took from `weights`: the base in full, or its tensors by name."""

    weights: nn.Module | Mapping[str, Tensor]

    name: ClassVar[str] = "loftq"

    def __post_init__(self) -> None:
        if not isinstance(self.weights, (nn.Module, Mapping)):
            raise PlanError(
                f"LoftQ's weights are a {type(self.weights).__name__}; expected the base in full, "
                "as a model or as its tensors by name. Load it first."
            )

    def start(self, root: nn.Module, places: Places) -> dict[str, Factors]:
        """A (rank, in) and B (out, rank) with scale * B A near what is missing."""
        check_ranks(self.name, places)
        given = self.weights
        named = dict(root_of(given).named_parameters()) if isinstance(given, nn.Module) else given
        found = {}
        for target, (form, rank, scale) in places.items():
            if not form.geometry.quantised:
                raise UnsupportedError(
                    f"init='loftq' makes up for quantisation, and {target!r} is not quantised. "
                    "Leave it out of the plan, or use another init."
                )
            weight = named.get(f"{form.path}.weight")
            weight = None if weight is None or weight.is_meta else weight
            own = form.geometry.matrix(form.layer).detach().float()
            both = () if weight is None else (weight, weight.T)  # GPT-2's are the other way round
            fits = [w.detach().to(own.device, torch.float32) for w in both if w.shape == own.shape]
            if not fits:
                shape = "nothing" if weight is None else f"shape {tuple(weight.shape)}"
                raise PlanError(
                    f"init='loftq' needs the weight of {form.path!r} in full, {tuple(own.shape)}; "
                    f"found {shape}. Pass the base that was quantised."
                )
            check_finite(self.name, target, "the weights of", fits[0])
            lost = min((full - own for full in fits), key=torch.linalg.norm)
            lost = lost if form.outputs is None else lost[form.outputs.to(lost.device)]
            if lost.norm() > own.norm() / 2:
                raise PlanError(
                    f"init='loftq': the weights given for {form.path!r} are not those that were "
                    "quantised: they differ by more than half of their size."
                )
            found[target] = Factors(*pissa.factors(lost, rank, scale))
        return found
