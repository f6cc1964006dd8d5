"""LoRA and its rank-stabilised form.

W + scale * B A, with W frozen, scale = alpha / r (Hu et al. 2021, section 4.1), or alpha / sqrt(r)
for rsLoRA (Kalajdzievski 2023, equation 8).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lorakit.core.errors import PlanError, UnsupportedError, did_you_mean, shortlist
from lorakit.core.inject import find_layers
from lorakit.core.patterns import matches
from lorakit.core.plan import check_rank, means, split_target
from lorakit.core.site import bare_copy, own_modules, own_parameters
from lorakit.core.state import AdapterState, LowRankState, scale_of
from lorakit.core.update import BiasShift, LowRank, Replacement, Rows, Update
from lorakit.layers import is_quantised
from lorakit.layers.experts import Experts
from lorakit.layers.form import Form, check_parts
from lorakit.layers.norm import NormShift, is_norm
from lorakit.layers.shared import acquaint
from lorakit.methods import olora, pissa
from lorakit.methods.start import Factors, FromWeight, Initialiser, Place, Places

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

# Layers whose bias is added last and along the last dimension, so that its change can be, too.
BIASED = ("torch.nn.modules.linear.Linear", "transformers.pytorch_utils.Conv1D",
          "torch.nn.modules.normalization.LayerNorm", "bitsandbytes.nn.modules.Linear4bit",
          "bitsandbytes.nn.modules.Linear8bitLt")  # fmt: skip


@dataclass(frozen=True)
class LoRA:
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
            updates.setdefault(path, {}).update(self._whole(root.get_submodule(path), path))
        for path, layer in layers.items():
            if is_norm(layer):
                updates[path].update(self._whole(layer, path))
        starts = self._starts(root, forms, ranks, alphas)
        for target, form in forms.items():
            start = starts.get(target) or _random(form, ranks[target], self.dtype)
            put(updates, form, self._low_rank(form, start, alphas[target]))
        for path in biased:
            value = bias_of(root.get_submodule(path)).to(self.dtype, copy=True)
            updates.setdefault(path, {})["bias"] = BiasShift(value)
        acquaint(updates)
        return updates

    def restored(self, root: nn.Module, state: AdapterState) -> dict[str, dict[str, Update]]:
        """The updates of a state that was read from a file and checked against the model."""
        updates: dict[str, dict[str, Update]] = {}
        for path, values in state.extras.items():
            whole = self._whole(root.get_submodule(path), path)
            for update in whole.values():
                for name, parameter in update.whole().items():
                    parameter.data = values[name].to(parameter)
            updates.setdefault(path, {}).update(whole)
        for target, low in state.low_rank.items():
            form = Form.of(root, target)
            put(updates, form, self._known(form, low))
        for path, value in state.biases.items():
            own = bias_of(root.get_submodule(path))
            shift = BiasShift(value.to(own.device, self.dtype, copy=True))
            updates.setdefault(path, {})["bias"] = shift
        acquaint(updates)
        return updates

    def _whole(self, module: nn.Module, path: str) -> dict[str, Update]:
        """A module that is trained in full: as a change where it can be one, else as a copy."""
        inside = next((m for m in module.modules() if is_quantised(m)), None)
        if inside is not None:
            raise UnsupportedError(
                f"{path!r} is quantised ({type(inside).__name__}), so it cannot be trained in "
                "full. Give it a rank instead, or leave it out of what is quantised."
            )
        if is_norm(module):
            return {"norm": NormShift(module, own_parameters(module), self.dtype)}
        return {"replacement": Replacement(bare_copy(module), self.dtype)}

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
    modules = own_modules(root)
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
