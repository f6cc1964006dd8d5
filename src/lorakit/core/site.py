"""Sites: the child module `layer.lora`, and the one hook by which its updates act."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from lorakit.core.registry import Registry
from lorakit.core.update import Call, Parameters, Update, first_input

SITE = "lora"


class Site(nn.Module):
    """All updates that live on one layer: a child for each adapter, named by its internal id."""

    hook: RemovableHandle

    def __init__(self, registry: Registry, path: str):
        super().__init__()
        self.registry = registry
        self.path = path

    def put(self, adapter: str, updates: dict[str, Update]) -> None:
        """Add one adapter's updates, by kind, in the order in which they act."""
        self.add_module(adapter, nn.ModuleDict(updates))

    def updates(self, adapter: str) -> dict[str, Update]:
        """The updates of one adapter here, by kind; empty where it has none."""
        found = self._modules.get(adapter)
        return dict(found.items()) if isinstance(found, nn.ModuleDict) else {}  # type: ignore[arg-type]

    def act(self, layer: nn.Module, args: tuple, kwargs: dict, output: Any) -> Any:
        """The layer's output with the updates of the adapters that the route names."""
        route = self.registry.route()
        call = Call(args, kwargs, output)
        if route.rows is None:
            for adapter in route.ids:
                for update in self.updates(adapter).values():
                    output = update.act(layer, call, output, None)
            return output
        here = [adapter for adapter in route.members() if adapter in self._modules]
        if not here:
            return output
        first = first_input(call)
        indices = route.indices(first.shape[0], first.device, self.path)
        for adapter in sorted(here):
            for update in self.updates(adapter).values():
                output = update.act(layer, call, output, indices[adapter])
        return output

    def merge_into(self, layer: nn.Module, adapters: tuple[str, ...]) -> Parameters:
        """The parameters that the adapters change, merged, in a wider dtype."""
        start = {name: _wide(value) for name, value in own_parameters(layer).items()}
        parameters = dict(start)
        for adapter in adapters:
            for update in self.updates(adapter).values():
                update.merge_into(layer, parameters)
        return {name: value for name, value in parameters.items() if value is not start[name]}


def act_on_output(layer: nn.Module, args: tuple, kwargs: dict, output: Any) -> Any:
    """The forward hook of every adapted layer.

    It stays a function at module level: hooks are pickled by name, and it must find the site of
    the layer it runs on, which a replica or a deep copy has of its own.
    """
    return layer._modules[SITE].act(layer, args, kwargs, output)  # type: ignore[union-attr]


def site_of(layer: nn.Module) -> Site | None:
    """The layer's site, or None."""
    site = layer._modules.get(SITE)
    return site if isinstance(site, Site) else None


def make_site(layer: nn.Module, registry: Registry, path: str) -> Site:
    """The layer's site; put there, with its hook, if it has none yet."""
    site = site_of(layer)
    if site is None:
        site = Site(registry, path)
        handle = layer.register_forward_hook(act_on_output, with_kwargs=True)
        object.__setattr__(site, "hook", handle)
        layer.add_module(SITE, site)
    return site


def drop_site(layer: nn.Module) -> None:
    """Take the site and its hook off the layer."""
    site = layer._modules.pop(SITE)
    site.hook.remove()  # type: ignore[union-attr]


def bare_copy(module: nn.Module) -> nn.Module:
    """A deep copy of `module` without any adapters that live in it."""
    bare = copy.deepcopy(module)
    for child in list(bare.modules()):
        if SITE in child._modules and site_of(child) is not None:
            drop_site(child)
    return bare


def own_parameters(layer: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters of the layer itself, by dotted name, without those of sites in it."""
    found = dict(layer.named_parameters(remove_duplicate=False))
    inside = [f"{path}." for path, child in layer.named_modules() if isinstance(child, Site)]
    return {name: p for name, p in found.items() if not name.startswith(tuple(inside))}


def _wide(value: Tensor) -> Tensor:
    """The next wider dtype: a sum is rounded to the base's dtype once, at the end."""
    detached = value.detach()
    return detached.float() if detached.dtype.itemsize < 4 else detached.double()
