"""What each further rank of a layer is worth, by its gradient, its inputs or its weight."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lorakit.core.errors import PlanError, UnsupportedError, shortlist
from lorakit.layers import MATRICES
from lorakit.layers.form import Form
from lorakit.methods.eva import Directions
from lorakit.methods.gradients import Loss, weight_gradients
from lorakit.methods.start import answering, mask_of, rows_of, run_batch, watched

Forms = Mapping[str, Form]
_TINY = torch.finfo(torch.float64).tiny  # instead of a division by zero


def by_gradient(root: nn.Module, forms: Forms, batches: Iterable[Any], loss: Loss) -> dict:
    """Squared singular values of G = dL/dW over the batches, over |G|, by target, falling.

    Adam's steps are as long in every layer, however large its gradient is. Along G a step of length
    1 lowers the loss by |G| in first order, and its best part of rank r by the sum of the first r
    of these. Squared values of fused experts, which get a rank together, are added up before.
    """
    found = {}
    who = "by='gradient'"
    for target, G in weight_gradients(root, forms, batches, loss, who=who).items():
        _check_finite(who, target, "the gradients at", G)
        squares = _squares(G)
        found[target] = squares / squares.sum().sqrt().clamp_min(_TINY)
    return found


def by_weight(forms: Forms) -> dict[str, Tensor]:
    """The share of the weight's own squares that each singular direction holds, falling."""
    found = {}
    for target, form in forms.items():
        weight = form.matrix()
        _check_finite("by='weight'", target, "the weights of", weight)
        squares = _squares(weight)
        found[target] = squares / squares.sum().clamp_min(_TINY)
    return found


def by_activation(
    root: nn.Module, forms: Forms, batches: Iterable[Any], most: Mapping[str, int]
) -> dict[str, Tensor]:
    """The share of the inputs' variance that each direction explains, as in EVA, falling.

    Inputs are taken as they are, not centred (Paischer et al. 2024, section 3). At most `most`
    directions of each target are followed from batch to batch.
    """
    other = [target for target, form in forms.items() if form.geometry.name not in MATRICES]
    if other:
        raise UnsupportedError(
            f"by='activation' looks at what goes into matrix products, and {shortlist(other)} is "
            "none. Leave it out of the targets, or choose by='gradient' or by='weight'."
        )
    counts: dict[str, int] = {}
    for target, form in forms.items():
        counts[form.path] = max(counts.get(form.path, 1), most[target])
    seen = {path: Directions(count) for path, count in counts.items()}
    total = dict.fromkeys(seen, 0.0)
    batch: Any = None

    def look(path: str, x: Tensor, _: Tensor) -> None:
        rows = rows_of(x, mask_of(batch, path))
        _check_finite("by='activation'", path, "the inputs of", rows)
        seen[path].add(rows)
        total[path] += float(rows.double().square().sum())

    layers = {form.path: form.layer for form in forms.values()}
    with answering(root), torch.no_grad(), watched(layers, look):
        for batch in batches:
            run_batch(root, batch)
    blind = next((path for path in seen if not total[path]), None)
    if blind is not None:
        raise PlanError(
            f"by='activation': nothing went into {blind!r}. Pass batches that reach it, or leave "
            "it out of the targets."
        )
    return {
        target: seen[form.path].values.double().square() / total[form.path]
        for target, form in forms.items()
    }


def _squares(matrix: Tensor) -> Tensor:
    """The squared singular values (ranks,), falling, added up over what stands before its axes."""
    squares = torch.linalg.svdvals(matrix.float()).double().square()
    return squares.reshape(-1, squares.shape[-1]).sum(0)


def _check_finite(who: str, target: str, what: str, values: Tensor) -> None:
    if not torch.isfinite(values).all():
        raise PlanError(
            f"{who}: {what} {target!r} are not finite. Look at the data and at the base's weights, "
            "or leave the layer out of the targets."
        )
