"""Putting adapters on a model and taking them off again."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import nn

from lorakit.core.errors import (
    AdapterNameError,
    MergeError,
    PlanError,
    RoutingError,
    UnsupportedError,
    did_you_mean,
)
from lorakit.core.names import check_name, fold
from lorakit.core.registry import (
    ATTRIBUTE,
    STRUCTURE,
    Entry,
    Registry,
    registry_of,
    require_registry,
    root_of,
)
from lorakit.core.routing import Route
from lorakit.core.site import (
    SITE,
    Site,
    base_parameters,
    drop_site,
    make_site,
    module_at,
    own_parameters,
    site_of,
    walk,
)
from lorakit.core.update import Update

Updates = Mapping[str, dict[str, Update]]  # module path -> kind -> update
_shapes = threading.local()


@dataclass(frozen=True)
class InjectReport:
    """What was put on the model: counts of layers and of numbers that are trained or held."""

    name: str
    sites: int
    parameters: int
    bytes: int
    base_parameters: int

    def __str__(self) -> str:
        share = self.parameters / max(self.base_parameters, 1)
        return (
            f"adapter {self.name!r}: {self.parameters:,} parameters ({share:.2%} of the base's "
            f"{self.base_parameters:,}), {self.bytes / 1e6:.2f} MB, on {self.sites} layers"
        )


def adapters(model: nn.Module) -> tuple[str, ...]:
    """The names of the model's adapters, in the order in which they were added."""
    registry = registry_of(model)
    return tuple(entry.name for entry in registry.entries.values()) if registry else ()


@contextmanager
def shapes_only() -> Iterator[None]:
    """Let adapters be put on layers on the meta device in this thread: to count, not to train."""
    before, _shapes.only = getattr(_shapes, "only", False), True
    try:
        yield
    finally:
        _shapes.only = before


def find_layers(root: nn.Module, paths: Mapping[str, Any]) -> dict[str, nn.Module]:
    """The layers at the paths, or `PlanError` for a path that is not there or stands twice.

    Raises `UnsupportedError` for a layer whose weights are still to come: what brings them
    (`to_empty`) would empty the adapter, too.
    """
    modules = {path: module for path, module in walk(root, repeated=True) if path}
    counting = getattr(_shapes, "only", False)
    seen: dict[int, str] = {}
    for path in paths:
        layer = modules.get(path)
        if layer is None:
            _check_not_ours(root, path)
            hint = did_you_mean(path, modules)
            raise PlanError(f"The model has no module {path!r}.{hint} See lk.plan for its targets.")
        if id(layer) in seen:
            raise PlanError(
                f"{seen[id(layer)]!r} and {path!r} are one and the same module. Name it once."
            )
        seen[id(layer)] = path
        if not counting and any(p.is_meta for p in own_parameters(layer).values()):
            raise UnsupportedError(
                f"{path!r} is on the meta device: it has no weights yet, and filling them in would "
                "lose the adapter. Load the model's weights first, then inject or load."
            )
    return {path: modules[path] for path in paths}


def check_addition(model: nn.Module, name: object) -> str:
    """The label for a new adapter of the model, or the error that says why it cannot be added."""
    label = check_name(name)
    registry = registry_of(model)
    if registry is None:
        return label
    if registry.merged is not None:
        raise MergeError("Adapters are merged into this model: call lk.unmerge(model) first.")
    taken = registry.entries.get(fold(label))
    if taken is not None:
        raise AdapterNameError(
            f"This model already has an adapter {taken.name!r} (upper and lower case count as the "
            f"same). Choose another name, or lk.remove(model, {taken.name!r}) first."
        )
    return label


def attach(model: nn.Module, name: str, updates: Updates, *, method: Any) -> InjectReport:
    """Put finished updates on the model, and freeze the base.

    The first adapter of a model becomes its default route; later ones wait for `activate`.
    """
    with STRUCTURE:
        label = check_addition(model, name)
        root = root_of(model)
        layers = find_layers(root, updates)
        registry = registry_of(root) or Registry()
        _check_layers(layers, registry)
        replaced = _replaced(updates)
        own = base_parameters(root)
        base = sum(p.numel() for p in own.values())
        first = not registry.entries
        entry = Entry(registry.next_id(), label, method, tuple(updates), replaced)
        root.__dict__[ATTRIBUTE] = registry
        _freeze(own, registry)
        for path, layer in layers.items():
            site = make_site(layer, registry, path)
            site.put(layer, entry.id, updates[path], training=layer.training)
        registry.entries[fold(label)] = entry
        if first:
            registry.active = Route((entry.id,))
    held = {  # by their memory, which frozen factors may share
        p.untyped_storage()._cdata: p
        for kinds in updates.values() for u in kinds.values() for p in own_parameters(u).values()
    }  # fmt: skip
    sizes = [(p.untyped_storage().nbytes(), p.element_size()) for p in held.values()]
    count = sum(nbytes // each for nbytes, each in sizes)
    return InjectReport(label, len(layers), count, sum(nbytes for nbytes, _ in sizes), base)


def remove(model: nn.Module, name: str) -> None:
    """Take an adapter off. Without its last adapter the model is what it was before the first."""
    with STRUCTURE:
        registry = require_registry(model)
        entry = registry.entry(name)
        if registry.merged is not None:
            raise MergeError("Adapters are merged into this model: call lk.unmerge(model) first.")
        if any(entry.id in route.members() for route in registry.open):
            raise RoutingError(
                f"{entry.name!r} is in use: a `with lk.use(...)` of this or another thread names "
                "it. Leave that block first."
            )
        root = root_of(model)
        for path in entry.paths:
            layer = module_at(root, path)
            site = site_of(layer)
            if site is not None:
                site._modules.pop(entry.id)
                if not site._modules:
                    drop_site(layer)
        del registry.entries[fold(entry.name)]
        registry.active = Route(tuple(i for i in registry.active.ids if i != entry.id))
        if not registry.entries:
            _thaw(root, registry)
            del root.__dict__[ATTRIBUTE]


def _check_not_ours(root: nn.Module, path: str) -> None:
    """Raise `PlanError` for a path that is not the base's but leads to, or into, a site."""
    module: nn.Module | None = root
    for name in path.split("."):
        module = module._modules.get(name)
        if module is None:
            return
        if isinstance(module, Site):
            raise PlanError(f"{path!r} belongs to an adapter; adapters cannot be stacked on one.")


def _check_layers(layers: Mapping[str, nn.Module], registry: Registry) -> None:
    if not layers:
        raise PlanError("The plan names no target, so there is nothing to adapt. See lk.plan.")
    for path, layer in layers.items():
        site = site_of(layer)
        if site is None and hasattr(layer, SITE):
            raise PlanError(
                f"{path!r} has an attribute {SITE!r} of its own, where lorakit keeps its updates. "
                "Leave this layer out of the plan, or rename the attribute."
            )
        if site is not None and site.registry is not registry:
            raise PlanError(
                f"{path!r} was adapted through another root module. Use that same module here."
            )


def _replaced(updates: Updates) -> tuple[str, ...]:
    """The paths that a replacement answers for; nothing else of the adapter may be inside one."""
    found = [path for path, kinds in updates.items() if any(u.replaces for u in kinds.values())]
    for path in found:
        inside = next((other for other in updates if other.startswith(f"{path}.")), None)
        if inside is not None:
            raise PlanError(
                f"{inside!r} lies inside {path!r}, which is trained in full. Name one of the two."
            )
    return tuple(found)


def _freeze(own: Mapping[str, nn.Parameter], registry: Registry) -> None:
    trained = {name: p for name, p in own.items() if p.requires_grad}
    for parameter in trained.values():
        parameter.requires_grad_(False)
    registry.frozen += tuple(trained)


def _thaw(root: nn.Module, registry: Registry) -> None:
    own = base_parameters(root)
    for name in registry.frozen:
        if name in own:
            own[name].requires_grad_(True)
