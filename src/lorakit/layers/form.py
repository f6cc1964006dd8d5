"""What a target is on a model: its layer, that one's low-rank form, and the outputs meant."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lorakit.core.errors import PlanError
from lorakit.core.plan import split_target
from lorakit.core.site import module_at
from lorakit.core.update import Geometry
from lorakit.layers import require_geometry
from lorakit.layers.experts import ExpertsGeometry, expert_parameters
from lorakit.layers.fused import outputs_of


@dataclass(frozen=True)
class Form:
    """One target of a model: `size` is (columns of A, rows of B), `width` all of its outputs.

    `lead` is the axis before those of A and B where the target is a parameter of fused experts.
    """

    path: str
    part: str
    layer: nn.Module
    geometry: Geometry
    outputs: Tensor | None
    size: tuple[int, int]
    width: int
    lead: tuple[int, ...] = ()

    @classmethod
    def of(cls, root: nn.Module, target: str) -> Form:
        """The form of a target, or `UnsupportedError`, or `PlanError` for an unknown part."""
        path, part = split_target(target)
        layer = module_at(root, path)
        if expert_parameters(layer):
            experts = ExpertsGeometry.of(layer, target, part)
            count, rows, columns = experts.matrix(layer).shape
            return cls(path, part, layer, experts, None, (columns, rows), rows, (count,))
        geometry = require_geometry(layer, path)
        columns, width = geometry.size(layer)
        outputs = outputs_of(root, target)
        rows = width if outputs is None else len(outputs)
        return cls(path, part, layer, geometry, outputs, (columns, rows), width)

    @property
    def kind(self) -> str:
        """The update's name on its site."""
        return f"low_rank:{self.part}" if self.part else "low_rank"

    def matrix(self) -> Tensor:
        """The weights of the outputs that are meant, (rows, columns), detached, in float32."""
        matrix = self.geometry.matrix(self.layer).detach().float()
        return matrix if self.outputs is None else matrix[self.outputs.to(matrix.device)]

    @property
    def device(self) -> torch.device:
        """Where the layer's weight is."""
        return self.geometry.matrix(self.layer).device if self.lead else self._weight().device

    def _weight(self) -> Tensor:
        assert isinstance(self.layer.weight, Tensor)
        return self.layer.weight


def check_parts(targets: Iterable[str]) -> None:
    """Raise `PlanError` where a layer is named as a whole and by one of its parts."""
    listed = set(targets)
    for target in listed:
        path, part = split_target(target)
        if part and path in listed:
            raise PlanError(f"{target!r} is a part of {path!r}, which is named too. Name one.")
