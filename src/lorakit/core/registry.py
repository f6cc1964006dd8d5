"""What a model knows of its adapters: names, the default route, and what each thread uses now."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from lorakit.core.errors import AdapterNameError, RoutingError, did_you_mean, shortlist
from lorakit.core.names import fold
from lorakit.core.routing import BASE, Route

ATTRIBUTE = "_lorakit"
# Inject, load, merge and remove change a model's structure: one at a time, whatever the thread.
STRUCTURE = threading.RLock()


@dataclass
class Entry:
    """One adapter of a model: its label, its internal id, and where its updates live."""

    id: str
    name: str
    method: Any
    paths: tuple[str, ...]
    replaced: tuple[str, ...] = ()  # paths of modules that it answers for as a whole


@dataclass
class Frame:
    """One open `use`: its route, and the asyncio task that opened it (None outside of asyncio)."""

    route: Route
    task: object | None


@dataclass
class Registry:
    """All that a model knows of its adapters. Kept on the model, copied and pickled with it."""

    entries: dict[str, Entry] = field(default_factory=dict)  # folded name -> entry
    active: Route = BASE
    frozen: tuple[str, ...] = ()  # base parameters that the first adapter froze
    merged: Any = None  # the merge that is in force, see core/merge.py
    made: int = 0

    def __post_init__(self) -> None:
        self._start()

    def _start(self) -> None:
        self.local = threading.local()
        self.open: list[Route] = []
        self.trained: Route | None = None

    def __getstate__(self) -> dict[str, Any]:
        # What threads do now stays with this object: a copy starts with nothing in use.
        here = {"local", "open", "trained"}
        return {key: value for key, value in self.__dict__.items() if key not in here}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start()

    def entry(self, name: str) -> Entry:
        """The adapter of this name, or `AdapterNameError` with the nearest names."""
        found = self.entries.get(fold(name)) if isinstance(name, str) else None
        if found is None:
            known = [entry.name for entry in self.entries.values()]
            have = f"this model has {shortlist(map(repr, known))}" if known else "it has none"
            raise AdapterNameError(
                f"No adapter {name!r} on this model: {have}."
                + did_you_mean(str(name), known)
                + ("" if known else " Inject or load one first.")
            )
        return found

    def next_id(self) -> str:
        """A new internal id; never given twice on one model."""
        self.made += 1
        return f"a{self.made - 1}"

    def route_to(self, names: Iterable[str]) -> Route:
        """The route on which the named adapters add up."""
        entries = [self.entry(name) for name in names]
        ids = [entry.id for entry in entries]
        twice = next((entry.name for entry in entries if ids.count(entry.id) > 1), None)
        if twice is not None:
            raise RoutingError(
                f"{twice!r} is named twice; adapters add up, once each. Name it once."
            )
        self._check_together(entries)
        return Route(tuple(ids)) if ids else BASE

    def _check_together(self, entries: list[Entry]) -> None:
        """Adapters add up, but one that answers for a module leaves nothing to add to."""
        for entry in entries:
            others = [other for other in entries if other is not entry]
            for path in entry.replaced:
                clash = next((o for o in others if _reaches(o, path)), None)
                if clash is not None:
                    raise RoutingError(
                        f"{entry.name!r} answers for {path!r} as a whole and "
                        f"{clash.name!r} changes it too, so they cannot act together. Use one of "
                        "them, or one for each row with per_sample."
                    )

    def route(self) -> Route:
        """The route of the call that is running now, in this thread."""
        if self.merged is not None:
            return BASE
        frames: list[Frame] | None = getattr(self.local, "frames", None)
        route = self.active
        if frames:
            frame = frames[-1]
            route = frame.route
            if frame.task is not None and frame.task is not current_task():
                raise RoutingError(
                    "Another asyncio task of this thread is inside `lk.use`, so this call would "
                    "get its adapters. Do not await inside `with lk.use(...)`: run the whole "
                    "block in one go, or in a thread with asyncio.to_thread."
                )
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            self._check_recompute(route)
        return route

    def _check_recompute(self, route: Route) -> None:
        """Refuse to recompute a checkpointed block under another route than its forward had."""
        # Inside backward() a layer runs only to be recomputed, maybe in autograd's own thread.
        if torch._C._current_graph_task_id() < 0:
            self.trained = route
        elif self.trained is not None and route != self.trained:
            raise RoutingError(
                "A checkpointed block is recomputed under other adapters than its forward had. "
                "Call backward() inside the same `with lk.use(...)`, or train with lk.activate."
            )

    def names_of(self, ids: Iterable[str]) -> list[str]:
        """Labels of internal ids, in the order in which the adapters were added."""
        wanted = set(ids)
        return [entry.name for entry in self.entries.values() if entry.id in wanted]


def _reaches(entry: Entry, path: str) -> bool:
    """Whether the adapter changes the module at `path` or one inside it."""
    return any(own == path or own.startswith(f"{path}.") for own in entry.paths)


def current_task() -> object | None:
    """The asyncio task that runs in this thread, or None where there is no event loop."""
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


def root_of(model: nn.Module) -> nn.Module:
    """The module that adapters are kept on: `model` without the wrap of torch.compile or DDP."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"expected a torch.nn.Module, got {type(model).__name__}")
    inner = model
    while ATTRIBUTE not in inner.__dict__:
        wrapped = inner._modules.get("_orig_mod")
        if wrapped is None and isinstance(inner, nn.parallel.DistributedDataParallel):
            wrapped = inner.module
        if not isinstance(wrapped, nn.Module):
            return inner
        inner = wrapped
    return inner


def registry_of(model: nn.Module) -> Registry | None:
    """The model's registry, or None where it never had an adapter or all were removed."""
    return root_of(model).__dict__.get(ATTRIBUTE)


def require_registry(model: nn.Module) -> Registry:
    """The model's registry, or `AdapterNameError` where it has no adapters."""
    registry = registry_of(model)
    if registry is None:
        raise AdapterNameError("This model has no adapters: inject or load one first.")
    return registry
