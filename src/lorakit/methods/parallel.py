"""Parallel adapters: a bottleneck beside the feed-forward part (He et al. 2022, section 4.2).

h + s f(x), where x is what the feed-forward part gets, h what it gives, and s = 4 ("scaled PA",
table 6).
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lorakit.core.errors import PlanError
from lorakit.core.site import walk
from lorakit.core.update import Call, first_input
from lorakit.layers.form import Form
from lorakit.layers.role import role_of
from lorakit.methods.bottleneck import Bottleneck, Houlsby, matrix_of
from lorakit.methods.method import Unmergeable, Updates
from lorakit.methods.start import check_number


class Latest:
    """What a layer got last, in each thread, for one that comes after it."""

    def __init__(self) -> None:
        self.local = threading.local()

    def __getstate__(self) -> dict[str, Any]:
        return {"of": "latest"}  # what threads do now stays here

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.local = threading.local()

    def put(self, value: Any) -> None:
        """Keep a value for the next `take` of this thread."""
        self.local.value = value

    def take(self) -> Any:
        """The value, once; None where there is none."""
        value = getattr(self.local, "value", None)
        self.local.value = None
        return value


class Tap(Unmergeable):
    """Notes what the first layer of a feed-forward part gets."""

    def __init__(self, latest: Latest):
        super().__init__()
        self.latest = latest

    def act(self, layer: nn.Module, call: Call, output: Tensor, rows: Tensor | None) -> Tensor:
        self.latest.put(first_input(call))
        return output


class Beside(Bottleneck):
    """Adds s f(x) to what the last layer of a feed-forward part gives."""

    latest: Latest

    def act(self, layer: nn.Module, call: Call, output: Tensor, rows: Tensor | None) -> Tensor:
        x = self.latest.take()
        assert x is not None, "the first layer of this feed-forward part was not called"
        delta = self.product(x if rows is None else x.index_select(0, rows))
        return output + delta if rows is None else output.index_add(0, rows, delta)


@dataclass(frozen=True)
class Parallel(Houlsby):
    """The options of parallel adapters: `activation`, and the factor `scale`."""

    activation: str = "relu"
    scale: float = 4.0

    name: ClassVar[str] = "parallel"
    targets: ClassVar[tuple[str, ...]] = ("down",)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number(self.scale, "scale")

    def options(self) -> dict[str, Any]:
        """Activation and scale."""
        return {"activation": self.activation, "scale": self.scale}

    def make(self, root: nn.Module, sizes: Mapping[str, int]) -> Updates:
        """A bottleneck to each last layer of a feed-forward part, from the first one before it."""
        found: Updates = {}
        for last, path in _firsts(root, sizes).items():
            latest, form = Latest(), matrix_of(root, last, self.name)
            beside = Beside(
                Form.of(root, path).size[0], sizes[last], form.width, activation=self.activation,
                scale=self.scale, like=torch.empty(0, device=form.device, dtype=self.dtype),
            )  # fmt: skip
            beside.latest = latest
            found[path] = {"tap": Tap(latest)}
            found[last] = {"bottleneck": beside}
        return found


def _firsts(root: nn.Module, targets: Mapping[str, int]) -> dict[str, str]:
    """The last layer of each feed-forward part that is named -> the first one."""
    found: dict[str, str] = {}
    before: str | None = None
    for path, layer in walk(root):
        role = role_of(path, layer)
        if role == "up":
            before = path
        elif path in targets:
            if role != "down" or before is None:
                raise PlanError(
                    f"{path!r} is not the last layer of a feed-forward part, and a parallel "
                    "adapter goes beside one. Name targets='down'."
                )
            found[path], before = before, None
    return found
