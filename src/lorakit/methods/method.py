"""What a method is: options, and functions that make updates of them and of a plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lorakit.core.errors import BaseMismatchError, PlanError, UnsupportedError
from lorakit.core.inject import find_layers
from lorakit.core.plan import check_rank, split_target
from lorakit.core.state import AdapterState
from lorakit.core.sums import Sums
from lorakit.core.update import Update
from lorakit.methods.whole import add_known_biases, find_extras, in_full, known_in_full

Updates = dict[str, dict[str, Update]]  # module path -> kind -> update


class Method:
    """The options of a method, as a value; one file each beside this one.

    `targets` are the words that a plan is made of where the user names none, `size` says what the
    number of each target means.
    """

    name: ClassVar[str]
    targets: ClassVar[tuple[str, ...]] = ("all-linear",)
    size: ClassVar[str] = "rank"

    @classmethod
    def words(cls, size: int) -> tuple[tuple[str, ...], int]:
        """The words of the method's own plan, and the number of each target."""
        return cls.targets, size

    @classmethod
    def of(cls, state: AdapterState, dtype: torch.dtype) -> Method:
        """The options of an adapter that was read."""
        raise NotImplementedError

    def updates(self, root: nn.Module, plan: Mapping[str, int]) -> Updates:
        """Fresh updates for a plan; nothing is put on the model."""
        raise NotImplementedError

    def restored(self, root: nn.Module, state: AdapterState) -> Updates:
        """The updates of a state that was read from a file and checked against the model."""
        raise NotImplementedError

    def options(self) -> dict[str, Any]:
        """What a file of the adapter has to say besides its tensors, as JSON."""
        return {}

    def kept(self) -> Method:
        """The options without what was needed only to start."""
        return self


@dataclass(frozen=True)
class Baseline(Method):
    """The options that all methods have which LoRA is compared with.

    `extras` names modules that are trained in full as well, such as a new head; `dtype` is what the
    trained parameters are kept in.
    """

    extras: tuple[str, ...] = ()
    dtype: torch.dtype = torch.float32

    rslora: ClassVar[bool] = False
    dropout: ClassVar[float] = 0.0
    bias: ClassVar[str] = "none"

    def __post_init__(self) -> None:
        if isinstance(self.extras, str):
            raise PlanError(f"extras is the text {self.extras!r}; expected a list of modules.")
        if not self.dtype.is_floating_point:
            raise PlanError(f"dtype is {self.dtype}; expected a floating-point type.")

    @classmethod
    def of(cls, state: AdapterState, dtype: torch.dtype) -> Baseline:
        """The options of an adapter that was read; `PlanError` for ones that are not its own."""
        try:
            return cls(extras=tuple(state.extras), dtype=dtype, **state.options)
        except TypeError as error:
            raise PlanError(
                f"{cls.name} cannot have the options {state.options}: {error}."
            ) from error

    def updates(self, root: nn.Module, plan: Mapping[str, int]) -> Updates:
        """Fresh updates for a plan: modules in full, and what the method puts on each target."""
        sizes = {target: check_rank(size, repr(target)) for target, size in plan.items()}
        extras = find_extras(root, self.extras)
        inside = tuple(f"{path}." for path in extras)
        sizes = {t: n for t, n in sizes.items() if n and not f"{t}.".startswith(inside)}
        find_layers(root, dict.fromkeys(split_target(target)[0] for target in sizes))
        found = in_full(root, extras, self.dtype)
        return _joined(found, self.make(root, sizes))

    def restored(self, root: nn.Module, state: AdapterState) -> Updates:
        """The updates of a state: made anew for the sizes of its tensors, then given its values.

        Raises `BaseMismatchError` where a tensor is not of the shape that this base needs.
        """
        try:
            sizes = {target: self.size_of(values) for target, values in state.parameters.items()}
        except KeyError as error:
            raise BaseMismatchError(
                f"The adapter lacks a tensor {error} that {self.name} has everywhere. Fetch or "
                "save it again."
            ) from error
        made = self.make(root, sizes)
        held = {
            update.target(path): update
            for path, kinds in made.items()
            for update in kinds.values()
            if not update.own
        }
        for target, values in state.parameters.items():
            _fill(held[target], values, target)
        found = _joined(known_in_full(root, state, self.dtype), made)
        add_known_biases(found, root, state, self.dtype)
        return found

    def make(self, root: nn.Module, sizes: Mapping[str, int]) -> Updates:
        """Updates for targets of these sizes, as training starts with them."""
        raise NotImplementedError

    def size_of(self, values: Mapping[str, Tensor]) -> int:
        """The number that a plan had for a target with these tensors."""
        del values
        return 1


class Unmergeable(Update):
    """An update that is no change of a weight, so that no merge can hold it."""

    own = False

    def merge_into(self, layer: nn.Module, sums: Sums) -> None:
        """Raise `UnsupportedError`."""
        del layer, sums
        raise UnsupportedError(
            f"{type(self).__name__} is no change of a weight, so it cannot be merged into one. "
            "Keep the adapter beside its base, or train it by a method that merges, such as LoRA."
        )


def _fill(update: Update, values: Mapping[str, Tensor], target: str) -> None:
    """Give an update the values of a file."""
    own = dict(update.named_parameters())
    shapes = {name: tuple(value.shape) for name, value in own.items()}
    given = {name: tuple(value.shape) for name, value in values.items()}
    if shapes != given:
        raise BaseMismatchError(
            f"{target!r} needs {shapes} in this model, and the adapter has {given}. Load it on the "
            "base it was trained on."
        )
    for name, parameter in own.items():
        parameter.data = values[name].to(parameter, copy=True)


def _joined(one: Updates, other: Updates) -> Updates:
    found = {path: dict(kinds) for path, kinds in one.items()}
    for path, kinds in other.items():
        found.setdefault(path, {}).update(kinds)
    return found
