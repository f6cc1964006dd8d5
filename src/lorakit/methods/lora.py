"""LoRA and its rank-stabilised form.

W + scale * B A, with W frozen, scale = alpha / r (Hu et al. 2021, section 4.1), or alpha / sqrt(r)
for rsLoRA (Kalajdzievski 2023, equation 8).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from lorakit.core.errors import PlanError, UnsupportedError, did_you_mean, shortlist
from lorakit.core.inject import find_layers
from lorakit.core.patterns import matches
from lorakit.core.plan import check_rank, means, split_target
from lorakit.core.site import Site, bare_copy, own_parameters
from lorakit.core.state import AdapterState, LowRankState, scale_of
from lorakit.core.update import BiasShift, LowRank, Replacement, Update
from lorakit.layers.form import Form, check_parts
from lorakit.layers.norm import NormShift, is_norm
from lorakit.methods import olora, pissa

# (weight, rank, scale) -> A and B to start from; the update is their difference to that start.
Initialiser = Callable[[Tensor, int, float], tuple[Tensor, Tensor]]
INITIALISERS: dict[str, Initialiser | None] = {
    "default": None, pissa.name: pissa.factors, olora.name: olora.factors,
}  # fmt: skip

# Layers whose bias is added last and along the last dimension, so that its change can be, too.
BIASED = ("torch.nn.modules.linear.Linear", "transformers.pytorch_utils.Conv1D",
          "torch.nn.modules.normalization.LayerNorm")  # fmt: skip


class Factors(NamedTuple):
    """A and B of one update, and where they started, if that was not at zero."""

    A: Tensor
    B: Tensor
    anchor: tuple[Tensor, Tensor] | None = None


@dataclass(frozen=True)
class LoRA:
    """The options of LoRA.

    `alpha` is one number or a mapping of pattern to number, first match wins. `bias` also trains
    the biases of the adapted layers ("lora_only") or of all layers ("all"). `extras` names modules
    that are trained in full and kept in the adapter, such as a new head. `init` is how A and B
    start: "default" (A at random, B zero), "pissa" or "olora". `dtype` is what the trained
    parameters are kept in.
    """

    alpha: float | Mapping[str, float] = 16.0
    dropout: float = 0.0
    rslora: bool = False
    bias: str = "none"
    extras: tuple[str, ...] = ()
    init: str = "default"
    dtype: torch.dtype = torch.float32

    name: ClassVar[str] = "lora"

    def __post_init__(self) -> None:
        alphas = self.alpha.items() if isinstance(self.alpha, Mapping) else [("", self.alpha)]
        for pattern, alpha in alphas:
            check_alpha(alpha, f"alpha of {pattern!r}" if pattern else "alpha")
        if not isinstance(self.dropout, (int, float)) or not 0 <= self.dropout < 1:
            raise PlanError(f"dropout is {self.dropout!r}; expected a number from 0 to below 1.")
        if self.bias not in ("none", "lora_only", "all"):
            raise PlanError(
                f"bias is {self.bias!r}; expected 'none', 'lora_only' or 'all'."
                + did_you_mean(str(self.bias), ("none", "lora_only", "all"))
            )
        if self.init not in INITIALISERS:
            raise PlanError(
                f"init is {self.init!r}; expected one of {', '.join(INITIALISERS)}."
                + did_you_mean(str(self.init), INITIALISERS)
            )
        if isinstance(self.extras, str):
            raise PlanError(f"extras is the text {self.extras!r}; expected a list of modules.")
        if not self.dtype.is_floating_point:
            raise PlanError(f"dtype is {self.dtype}; expected a floating-point type.")

    def scale(self, alpha: float, rank: int) -> float:
        """The factor before B A."""
        return scale_of(alpha, rank, rslora=self.rslora)

    def updates(self, root: nn.Module, plan: Mapping[str, int]) -> dict[str, dict[str, Update]]:
        """Fresh updates for a plan; nothing is put on the model."""
        ranks = {target: check_rank(rank, repr(target)) for target, rank in plan.items()}
        targets = [target for target, rank in ranks.items() if rank]
        layers = find_layers(root, dict.fromkeys(split_target(target)[0] for target in targets))
        forms = {t: Form.of(root, t) for t in targets if not is_norm(layers[split_target(t)[0]])}
        check_parts(targets)
        alphas = {target: self._alpha(target) for target in forms}
        extras = find_extras(root, self.extras)
        biased = self._biased(root, layers, extras)
        updates: dict[str, dict[str, Update]] = {path: {} for path in layers}
        for path in extras:
            updates.setdefault(path, {}).update(self._whole(root.get_submodule(path)))
        for path, layer in layers.items():
            if is_norm(layer):
                updates[path].update(self._whole(layer))
        for target, form in forms.items():
            fresh = self._fresh(form, ranks[target], alphas[target])
            updates[form.path][form.kind] = fresh
        for path in biased:
            value = bias_of(root.get_submodule(path)).to(self.dtype, copy=True)
            updates.setdefault(path, {})["bias"] = BiasShift(value)
        return updates

    def restored(self, root: nn.Module, state: AdapterState) -> dict[str, dict[str, Update]]:
        """The updates of a state that was read from a file and checked against the model."""
        updates: dict[str, dict[str, Update]] = {}
        for path, values in state.extras.items():
            whole = self._whole(root.get_submodule(path))
            for update in whole.values():
                for name, parameter in update.whole().items():
                    parameter.data = values[name].to(parameter)
            updates.setdefault(path, {}).update(whole)
        for target, low in state.low_rank.items():
            form = Form.of(root, target)
            updates.setdefault(form.path, {})[form.kind] = self._known(form, low)
        for path, value in state.biases.items():
            own = bias_of(root.get_submodule(path))
            shift = BiasShift(value.to(own.device, self.dtype, copy=True))
            updates.setdefault(path, {})["bias"] = shift
        return updates

    def _whole(self, module: nn.Module) -> dict[str, Update]:
        """A module that is trained in full: as a change where it can be one, else as a copy."""
        if is_norm(module):
            return {"norm": NormShift(module, own_parameters(module), self.dtype)}
        return {"replacement": Replacement(bare_copy(module), self.dtype)}

    def _fresh(self, form: Form, rank: int, alpha: float) -> LowRank:
        columns, rows = form.size
        factors = INITIALISERS[self.init]
        if factors is not None:
            return self._low_rank(form, self._anchored(form, rank, alpha, factors), alpha)
        A = torch.empty(rank, columns, device=form.device, dtype=self.dtype)
        B = torch.empty(rows, rank, device=form.device, dtype=self.dtype)
        form.geometry.start(A, B)
        return self._low_rank(form, Factors(A, B), alpha)

    def _anchored(self, form: Form, rank: int, alpha: float, factors: Initialiser) -> Factors:
        """Factors that start where the weight says, anchored there."""
        if rank > min(form.size):
            raise PlanError(
                f"init={self.init!r} takes rank {rank} from the weight of {form.path!r}, which has "
                f"at most {min(form.size)}. Lower the rank there."
            )
        start = factors(form.matrix(), rank, self.scale(alpha, rank))
        A, B = (value.to(self.dtype).contiguous() for value in start)
        return Factors(A, B, (A.clone(), B.clone()))

    def _known(self, form: Form, low: LowRankState) -> LowRank:
        def here(value: Tensor) -> Tensor:
            return value.to(form.device, self.dtype, copy=True).contiguous()

        anchor = low.anchor and (here(low.anchor[0]), here(low.anchor[1]))
        return self._low_rank(form, Factors(here(low.A), here(low.B), anchor), low.alpha)

    def _low_rank(self, form: Form, factors: Factors, alpha: float) -> LowRank:
        return LowRank(form.geometry, factors.A, factors.B, **self._given(form, factors, alpha))

    def _given(self, form: Form, factors: Factors, alpha: float) -> dict[str, Any]:
        return {
            "alpha": alpha,
            "scale": self.scale(alpha, len(factors.A)),
            "dropout": float(self.dropout),
            "part": form.part,
            "outputs": None if form.outputs is None else form.outputs.to(form.device),
            "width": form.width,
            "anchor": factors.anchor,
        }

    def _alpha(self, path: str) -> float:
        if not isinstance(self.alpha, Mapping):
            return float(self.alpha)
        pattern = next((p for p in self.alpha if means(p, path)), None)
        if pattern is None:
            raise PlanError(
                f"No alpha for {path!r}: none of {shortlist(map(repr, self.alpha))} means it. Add "
                "a last pattern '*' with the alpha of all the rest."
            )
        return float(self.alpha[pattern])

    def _biased(
        self, root: nn.Module, layers: Mapping[str, nn.Module], extras: list[str]
    ) -> list[str]:
        if self.bias == "none":
            return []
        everywhere = self.bias == "all"
        found = []
        for path, module in root.named_modules() if everywhere else layers.items():
            # A module that is trained in full has its bias trained with it.
            whole = [*extras, *(p for p, layer in layers.items() if is_norm(layer))]
            if any(f"{path}.".startswith(f"{other}.") for other in whole) or _in_site(root, path):
                continue
            if isinstance(getattr(module, "bias", None), nn.Parameter):
                check_biased(module, path)
                found.append(path)
        return found


def check_alpha(alpha: object, where: str) -> float:
    """Return alpha as a float, or raise `PlanError` unless it is a finite number other than 0."""
    good = isinstance(alpha, (int, float)) and not isinstance(alpha, bool)
    if not good or not math.isfinite(alpha) or alpha == 0:  # type: ignore[arg-type]
        raise PlanError(f"{where} is {alpha!r}; expected a finite number other than 0.")
    return float(alpha)  # type: ignore[arg-type]


def check_biased(module: nn.Module, path: str) -> None:
    """Raise `UnsupportedError` unless the module's bias is added last, along the last dimension."""
    kind = f"{type(module).__module__}.{type(module).__qualname__}"
    if kind not in BIASED:
        raise UnsupportedError(
            f"{path!r} is a {kind}, and lorakit does not know that its bias is added last. Use "
            "bias='lora_only' or bias='none'."
        )


def find_extras(root: nn.Module, patterns: tuple[str, ...]) -> list[str]:
    """The modules that the patterns mean, outermost first, or `PlanError` for one without any."""
    modules = {path: m for path, m in root.named_modules() if path and not _in_site(root, path)}
    found: list[str] = []
    for pattern in patterns:
        hits = [path for path in modules if matches(pattern, path)]
        if not hits:
            raise PlanError(
                f"extras: no module is meant by {pattern!r}.{did_you_mean(pattern, modules)}"
            )
        found += [path for path in hits if path not in found]
    empty = next((path for path in found if not list(modules[path].parameters())), None)
    if empty is not None:
        raise PlanError(f"extras: {empty!r} has no parameters to train. Name another module.")
    return [path for path in found if not any(path.startswith(f"{other}.") for other in found)]


def bias_of(layer: nn.Module) -> Tensor:
    """The layer's bias, detached."""
    assert isinstance(layer.bias, Tensor)
    return layer.bias.detach()


def _in_site(root: nn.Module, path: str) -> bool:
    parts = path.split(".")
    ends = (".".join(parts[: i + 1]) for i in range(len(parts)))
    return any(isinstance(root.get_submodule(end), Site) for end in ends)
