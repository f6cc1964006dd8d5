"""Sites: the child module `layer.lora`, and the one hook by which its updates act."""

from __future__ import annotations

import copy
import functools
import weakref
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from lorakit.core.bank import Bank, stacks
from lorakit.core.compiled import guard_hooks
from lorakit.core.registry import Registry
from lorakit.core.routing import Route
from lorakit.core.sums import Sums
from lorakit.core.update import Call, Inputs, LowRank, Quantised, Update, first_input

SITE = "lora"


class Sum(NamedTuple):
    """A parameter before a merge and, wide, after it; `packed` replaces a quantised layer."""

    before: Tensor
    after: Tensor
    packed: Quantised | None


class Mixed(NamedTuple):
    """The updates at one layer of all adapters in a mixed batch."""

    banks: list[Bank]
    alone: list[tuple[str, Update]]


class Site(nn.Module):
    """All updates that live on one layer: a child for each adapter, named by its internal id."""

    hook: RemovableHandle
    early: RemovableHandle | None  # the hook before the layer's call, where an update needs one

    def __init__(self, registry: Registry, path: str):
        super().__init__()
        self.registry = registry
        self.path = path

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        guard_hooks()  # a pickled model may come to a process that never injected anything

    def put(
        self, layer: nn.Module, adapter: str, updates: dict[str, Update], *, training: bool
    ) -> None:  # fmt: skip
        """Add one adapter's updates, by kind, in the order in which they act."""
        self.add_module(adapter, nn.ModuleDict(updates).train(training))
        if self.early is None and any(update.prepares for update in updates.values()):
            handle = layer.register_forward_pre_hook(act_on_inputs, with_kwargs=True)
            object.__setattr__(self, "early", handle)
        if any(update.replaces for update in updates.values()) and "forward" not in layer.__dict__:
            layer.__dict__["forward"] = functools.partial(run_unless_replaced, layer)

    def prepare(self, layer: nn.Module, args: tuple, kwargs: dict) -> Inputs:
        """What the layer is to be called with."""
        if self.registry.merged is not None:
            return args, kwargs
        route = self.registry.route()
        if route.rows is None:
            acting: dict[str, Tensor | None] = dict.fromkeys(route.ids)
        else:
            first = next(v for v in (*args, *kwargs.values()) if isinstance(v, Tensor))
            acting = {**route.indices(first.shape[0], first.device, self.path)}
        for adapter, rows in acting.items():
            for update in self.updates(adapter).values():
                if update.prepares:
                    args, kwargs = update.prepare(layer, args, kwargs, rows)
        return args, kwargs

    def is_replaced(self, layer: nn.Module) -> bool:
        """Whether what the layer itself would give is of no use to anyone."""
        if self.registry.merged is not None or len(layer._forward_hooks) > 1:
            return False
        route = self.registry.route()
        return any(u.replaces for own in route.ids for u in self.updates(own).values())

    def updates(self, adapter: str) -> dict[str, Update]:
        """The updates of one adapter here, by kind; empty where it has none."""
        found = self._modules.get(adapter)
        return dict(found.items()) if isinstance(found, nn.ModuleDict) else {}  # type: ignore[arg-type]

    def act(self, layer: nn.Module, args: tuple, kwargs: dict, output: Any) -> Any:
        """The layer's output with the updates of the adapters that the route names."""
        if self.registry.merged is not None:  # the layer's weight has them in it
            return output
        route = self.registry.route()
        call = Call(args, kwargs, output)
        if len(route.ids) == 1:  # what happens most, in few steps: they count for single tokens
            found = self._modules.get(route.ids[0])
            if found is None:
                return output
            if len(found._modules) == 1:
                (only,) = found._modules.values()
                return only.act(layer, call, output, None)  # type: ignore[union-attr,operator]
        if route.rows is None:
            updates = [update for own in route.ids for update in self.updates(own).values()]
            if any(update.reads_output for update in updates[1:]):
                call = Call(args, kwargs, output.clone())
            for update in updates:
                output = update.act(layer, call, output, None)
            return output
        here = route.known(weakref.ref(self), lambda: self._mixed(route))
        if not (here.banks or here.alone):
            return output
        first = first_input(call)
        count, device = first.shape[0], first.device
        if count == 0:  # an expert that no token was sent to
            return output
        indices = route.indices(count, device, self.path)
        for bank in here.banks:
            if bank.dropping or torch.compiler.is_compiling():
                for adapter, update in zip(bank.adapters, bank.updates):
                    output = update.act(layer, call, output, indices[adapter])
            else:
                output = bank.act(layer, call, output, route)
        for adapter, update in here.alone:
            output = update.act(layer, call, output, indices[adapter])
        return output

    def _mixed(self, route: Route) -> Mixed:
        """The updates of a mixed batch here: those that go together, and all others."""
        banks: dict[str, list[tuple[str, LowRank]]] = {}
        alone: list[tuple[str, Update]] = []
        for adapter in sorted(a for a in route.members() if a in self._modules):
            for kind, update in self.updates(adapter).items():
                if isinstance(update, LowRank) and stacks(update):
                    banks.setdefault(kind, []).append((adapter, update))
                else:
                    alone.append((adapter, update))
        return Mixed([Bank(*zip(*own)) for own in banks.values()], alone)

    def merge_into(self, layer: nn.Module, adapters: tuple[str, ...]) -> dict[str, Sum]:
        """The parameters that the adapters change, merged."""
        updates = [update for adapter in adapters for update in self.updates(adapter).values()]
        packed = next(filter(None, (update.packed(layer) for update in updates)), None)
        own: dict[str, Tensor] = dict(own_parameters(layer))
        if packed is not None:
            own["weight"] = packed.matrix(layer)
        sums = Sums(own)
        for update in updates:
            update.merge_into(layer, sums)
        return {
            name: Sum(sums.own[name], value, packed if name == "weight" else None)
            for name, value in sums.items()
        }


def act_on_output(layer: nn.Module, args: tuple, kwargs: dict, output: Any) -> Any:
    """The forward hook of every adapted layer.

    It stays a function at module level: hooks are pickled by name, and it must find the site of
    the layer it runs on, which a replica or a deep copy has of its own.
    """
    return layer._modules[SITE].act(layer, args, kwargs, output)  # type: ignore[union-attr]


def act_on_inputs(layer: nn.Module, args: tuple, kwargs: dict) -> Inputs:
    """The hook before the call of layers that have an update which changes what they get."""
    return layer._modules[SITE].prepare(layer, args, kwargs)  # type: ignore[union-attr,operator]


def run_unless_replaced(layer: nn.Module, *args: Any, **kwargs: Any) -> Any:
    """The forward of layers that an update can answer for, which then need not run themselves."""
    if layer._modules[SITE].is_replaced(layer):  # type: ignore[union-attr,operator]
        return None
    return type(layer).forward(layer, *args, **kwargs)


def site_of(layer: nn.Module) -> Site | None:
    """The layer's site, or None."""
    site = layer._modules.get(SITE)
    return site if isinstance(site, Site) else None


def walk(root: nn.Module, *, repeated: bool = False) -> Iterator[tuple[str, nn.Module]]:
    """The base's own modules by path, `root` first, in the order of `named_modules`.

    Sites are not entered, so that it takes as long however many adapters there are. A module that
    hangs in several places is given once, unless `repeated`.
    """
    waiting, seen = [("", root)], set()
    while waiting:
        path, module = waiting.pop()
        if not repeated:
            if id(module) in seen:
                continue
            seen.add(id(module))
        yield path, module
        before = f"{path}." if path else ""
        waiting += [
            (before + name, child)
            for name, child in reversed(module._modules.items())
            if child is not None and not isinstance(child, Site)
        ]


def module_at(root: nn.Module, path: str) -> nn.Module:
    """The module at a path that is known to be there; `get_submodule` takes ten times as long."""
    module: nn.Module | None = root
    for name in path.split(".") if path else ():
        module = module._modules[name]  # type: ignore[union-attr]
    assert module is not None
    return module


def own_modules(root: nn.Module) -> dict[str, nn.Module]:
    """The base's own modules inside `root` by path, without those of adapters."""
    return {path: module for path, module in walk(root) if path}


def make_site(layer: nn.Module, registry: Registry, path: str) -> Site:
    """The layer's site; put there, with its hook, if it has none yet."""
    site = site_of(layer)
    if site is None:
        guard_hooks()
        site = Site(registry, path)
        handle = layer.register_forward_hook(act_on_output, with_kwargs=True)
        object.__setattr__(site, "hook", handle)
        object.__setattr__(site, "early", None)
        layer.add_module(SITE, site)
        site.training = layer.training
    return site


def drop_site(layer: nn.Module) -> None:
    """Take the site and its hook off the layer."""
    site = layer._modules.pop(SITE)
    site.hook.remove()  # type: ignore[union-attr]
    if site.early is not None:  # type: ignore[union-attr]
        site.early.remove()  # type: ignore[union-attr]
    forward = layer.__dict__.get("forward")
    if isinstance(forward, functools.partial) and forward.func is run_unless_replaced:
        del layer.__dict__["forward"]


def bare_copy(module: nn.Module, memo: dict[int, Any] | None = None) -> nn.Module:
    """A deep copy of `module` without any adapters that live in it; `memo` as in deepcopy."""
    bare = copy.deepcopy(module, memo)
    for child in list(bare.modules()):
        if SITE in child._modules and site_of(child) is not None:
            drop_site(child)
    return bare


def own_parameters(layer: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters of the layer itself, by dotted name, without those of sites in it."""
    return dict(_parameters(layer, repeated=True))


def base_parameters(root: nn.Module) -> dict[str, nn.Parameter]:
    """The model's own parameters by name, tied ones once, without those of any adapter."""
    seen: set[int] = set()
    # `add` gives None: a parameter is kept where it is met first.
    return {n: p for n, p in _parameters(root) if not (id(p) in seen or seen.add(id(p)))}


def _parameters(root: nn.Module, *, repeated: bool = False) -> Iterator[tuple[str, nn.Parameter]]:
    for path, module in walk(root, repeated=repeated):
        before = f"{path}." if path else ""
        for name, parameter in module._parameters.items():
            if parameter is not None:
                yield before + name, parameter
