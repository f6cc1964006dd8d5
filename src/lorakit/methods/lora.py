"""LoRA and its rank-stabilised form.

W + scale * B A, with W frozen, scale = alpha / r (Hu et al. 2021, section 4.1), or alpha / sqrt(r)
for rsLoRA (Kalajdzievski 2023, equation 8).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lorakit.core.errors import PlanError, did_you_mean, shortlist
from lorakit.core.inject import find_layers
from lorakit.core.plan import check_rank, means, split_target
from lorakit.core.site import own_modules
from lorakit.core.state import AdapterState, LowRankState, scale_of
from lorakit.core.update import LowRank, Rows, Update
from lorakit.layers.experts import Experts
from lorakit.layers.form import Form, check_parts
from lorakit.layers.norm import is_norm
from lorakit.layers.shared import acquaint
from lorakit.methods import olora, pissa
from lorakit.methods.method import Method
from lorakit.methods.start import Factors, FromWeight, Initialiser, Place, Places
from lorakit.methods.whole import (
    add_known_biases,
    check_biased,
    find_extras,
    in_full,
    known_in_full,
    shifted_bias,
)

DEFAULT = "default"  # A at random, B zero
INITIALISERS: dict[str, Initialiser] = {
    name: FromWeight(name, factors)
    for name, factors in (("pissa", pissa.factors), ("olora", olora.factors))
}
FROM_DATA = {
    "eva": "lk.EVA(batches)",
    "lora-ga": "lk.LoRAGA(batches)",
    "loftq": "lk.LoftQ(weights)",
}


@dataclass(frozen=True)
class LoRA(Method):
    """The options of LoRA.

    `alpha` is one number or a mapping of pattern to number, first match wins. `bias` also trains
    the biases of the adapted layers ("lora_only") or of all layers ("all"). `extras` names modules
    that are trained in full and kept in the adapter, such as a new head. `init` is how A and B
    start: "default" (A at random, B zero), "pissa", "olora", or one of `lk.EVA`, `lk.LoRAGA` and
    `lk.LoftQ`, which take data or weights. `dtype` is what the trained parameters are kept in. On a
    base in bfloat16 or float16 `in_float32` multiplies in float32 all the same, as PEFT does: it
    costs time and memory, and buys gradients of 5e-7 instead of 3e-3 relative accuracy.
    """

    alpha: float | Mapping[str, float] = 16.0
    dropout: float = 0.0
    rslora: bool = False
    bias: str = "none"
    extras: tuple[str, ...] = ()
    init: str | Initialiser = DEFAULT
    dtype: torch.dtype = torch.float32
    in_float32: bool = False

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
        if isinstance(self.init, str):
            _check_init(self.init)
        elif isinstance(self.init, type) or not hasattr(self.init, "start"):
            raise PlanError(
                f"init is {self.init!r}; expected a name or one of {', '.join(FROM_DATA.values())}."
            )
        if isinstance(self.extras, str):
            raise PlanError(f"extras is the text {self.extras!r}; expected a list of modules.")
        if not self.dtype.is_floating_point:
            raise PlanError(f"dtype is {self.dtype}; expected a floating-point type.")

    @classmethod
    def of(cls, state: AdapterState, dtype: torch.dtype) -> LoRA:
        """The options of an adapter that was read."""
        return cls(
            alpha={path: low.alpha for path, low in state.low_rank.items()} or 16.0,
            dropout=state.dropout, rslora=state.rslora, bias=state.bias,
            extras=tuple(state.extras), dtype=dtype,
        )  # fmt: skip

    def kept(self) -> LoRA:
        """The options without the batches or weights that the start was found from."""
        return replace(self, init=DEFAULT)

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
        norms = [path for path, layer in layers.items() if is_norm(layer)]
        for path, whole in in_full(root, [*extras, *norms], self.dtype).items():
            updates.setdefault(path, {}).update(whole)
        starts = self._starts(root, forms, ranks, alphas)
        for target, form in forms.items():
            start = starts.get(target) or _random(form, ranks[target], self.dtype)
            put(updates, form, self._low_rank(form, start, alphas[target]))
        for path in biased:
            updates.setdefault(path, {})["bias"] = shifted_bias(root, path, self.dtype)
        acquaint(updates)
        return updates

    def restored(self, root: nn.Module, state: AdapterState) -> dict[str, dict[str, Update]]:
        """The updates of a state that was read from a file and checked against the model."""
        updates = known_in_full(root, state, self.dtype)
        for target, low in state.low_rank.items():
            form = Form.of(root, target)
            put(updates, form, self._known(form, low))
        add_known_biases(updates, root, state, self.dtype)
        acquaint(updates)
        return updates

    def _starts(
        self, root: nn.Module, forms: Mapping[str, Form], ranks: Mapping[str, int],
        alphas: Mapping[str, float],
    ) -> dict[str, Factors]:  # fmt: skip
        """Factors for the targets that do not start by chance alone, where they are trained."""
        places = {
            t: Place(form, ranks[t], self.scale(alphas[t], ranks[t])) for t, form in forms.items()
        }
        found = self._start(root, places) if places else {}
        return {target: self._kept(forms[target], start) for target, start in found.items()}

    def _start(self, root: nn.Module, places: Places) -> dict[str, Factors]:
        """What the initialiser makes of the targets; nothing where they start as they do."""
        init = INITIALISERS.get(self.init) if isinstance(self.init, str) else self.init
        return {} if init is None else init.start(root, places)

    def _kept(self, form: Form, start: Factors) -> Factors:
        """The factors in the dtype and place where they are trained."""

        def here(value: Tensor) -> Tensor:
            return value.to(form.device, self.dtype, copy=True).contiguous()

        anchor = start.anchor and (here(start.anchor[0]), here(start.anchor[1]))
        return Factors(here(start.A), here(start.B), anchor)

    def _known(self, form: Form, low: LowRankState) -> LowRank:
        return self._low_rank(form, self._kept(form, Factors(low.A, low.B, low.anchor)), low.alpha)

    def _low_rank(self, form: Form, factors: Factors, alpha: float) -> LowRank:
        return LowRank(form.geometry, factors.A, factors.B, **self._given(form, factors, alpha))

    def _given(self, form: Form, factors: Factors, alpha: float) -> dict[str, Any]:
        return {
            "alpha": alpha,
            "scale": self.scale(alpha, factors.A.shape[-2]),
            "dropout": float(self.dropout),
            "rows": Rows(
                form.part,
                None if form.outputs is None else form.outputs.to(form.device),
                form.width,
            ),
            "anchor": factors.anchor,
            "in_float32": self.in_float32,
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
        for path, module in own_modules(root).items() if everywhere else layers.items():
            # A module that is trained in full has its bias trained with it.
            whole = [*extras, *(p for p, layer in layers.items() if is_norm(layer))]
            if any(f"{path}.".startswith(f"{other}.") for other in whole):
                continue
            if isinstance(getattr(module, "bias", None), nn.Parameter):
                check_biased(module, path)
                found.append(path)
        return found


def put(updates: dict[str, dict[str, Update]], form: Form, update: LowRank) -> None:
    """Add an update to those of its layer; those of experts act as one."""
    here = updates.setdefault(form.path, {})
    if form.lead:
        together = here.setdefault("experts", Experts())
        assert isinstance(together, Experts)
        together.add(form.part, update)
    else:
        here[form.kind] = update


def _random(form: Form, rank: int, dtype: torch.dtype) -> Factors:
    """Factors as the geometry starts them: one at random, the other zero."""
    columns, rows = form.size
    A = torch.empty(*form.lead, rank, columns, device=form.device, dtype=dtype)
    B = torch.empty(*form.lead, rows, rank, device=form.device, dtype=dtype)
    form.geometry.start(A, B)
    return Factors(A, B)


def _check_init(name: str) -> None:
    if name in FROM_DATA:
        raise PlanError(f"init={name!r} needs something to start from: pass {FROM_DATA[name]}.")
    known = (DEFAULT, *INITIALISERS)
    if name not in known:
        hint = did_you_mean(name, [*known, *FROM_DATA])
        raise PlanError(
            f"init is {name!r}; expected one of {', '.join(known)}, or "
            f"{', '.join(FROM_DATA.values())}.{hint}"
        )


def check_alpha(alpha: object, where: str) -> float:
    """Return alpha as a float, or raise `PlanError` unless it is a finite number other than 0."""
    good = isinstance(alpha, (int, float)) and not isinstance(alpha, bool)
    if not good or not math.isfinite(alpha) or alpha == 0:  # type: ignore[arg-type]
        raise PlanError(f"{where} is {alpha!r}; expected a finite number other than 0.")
    return float(alpha)  # type: ignore[arg-type]
