"""Choosing which adapters act: the model's default, or for one thread and one block of code."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import nn

from lorakit.core.errors import MergeError, RoutingError
from lorakit.core.registry import (
    STRUCTURE,
    Frame,
    Registry,
    current_task,
    registry_of,
    require_registry,
)
from lorakit.core.routing import BASE, Route


def activate(model: nn.Module, *names: str) -> None:
    """Make the named adapters the default of every thread; they add up, none is the base."""
    with STRUCTURE:
        registry = registry_of(model) if not names else require_registry(model)
        if registry is None:
            return
        route = registry.route_to(names)
        _check_merged(registry, route)
        registry.active = route


@contextmanager
def use(
    model: nn.Module, *names: str, per_sample: Sequence[str | None] | None = None
) -> Iterator[None]:
    """Let the named adapters act in this block and this thread; they add up, none is the base.

    With `per_sample` each row of the batch gets the adapter named for it, None being the base. The
    batch is the first dimension of what the layers get.
    """
    if names and per_sample is not None:
        raise RoutingError("lk.use got names and per_sample; give one of the two.")
    wanted = bool(names) or per_sample is not None
    with STRUCTURE:
        registry = require_registry(model) if wanted else registry_of(model)
        if registry is not None:
            frame = _open(registry, names, per_sample)
    if registry is None:
        yield
        return
    try:
        yield
    finally:
        with STRUCTURE:
            registry.local.frames.remove(frame)
            registry.open.remove(frame.route)


def _open(
    registry: Registry, names: Sequence[str], per_sample: Sequence[str | None] | None
) -> Frame:
    route = registry.route_to(names) if per_sample is None else _mixed(registry, per_sample)
    _check_merged(registry, route)
    frames = registry.local.__dict__.setdefault("frames", [])
    frame = Frame(route, current_task())
    if frames and frames[-1].task is not frame.task:
        raise RoutingError(
            "Another asyncio task of this thread is inside `lk.use`. Do not await inside "
            "`with lk.use(...)`: run the whole block in one go, or with asyncio.to_thread."
        )
    frames.append(frame)
    registry.open.append(route)
    return frame


def _mixed(registry: Registry, per_sample: Sequence[str | None]) -> Route:
    if isinstance(per_sample, str) or not len(per_sample):
        raise RoutingError(
            f"per_sample={per_sample!r}: expected a list with one name, or None, for each row."
        )
    ids = {name: registry.entry(name).id for name in set(per_sample) if name is not None}
    if not ids:
        return BASE
    return Route(rows=tuple(None if name is None else ids[name] for name in per_sample))


def _check_merged(registry: Registry, route: Route) -> None:
    """While adapters are merged, only exactly these can act: the weights hold them."""
    merged = registry.merged
    if merged is not None and (route.rows is not None or set(route.ids) != set(merged.adapters)):
        names = registry.names_of(merged.adapters)
        raise MergeError(
            f"{', '.join(map(repr, names))} is merged into this model's weights, so no other "
            "choice can act on it. Call lk.unmerge(model) first."
        )
