"""YAML as recipes have it: a field that stands twice is a mistake."""

from __future__ import annotations

from typing import Any

import yaml


class NoDuplicates(yaml.SafeLoader):
    """YAML where a key that stands twice is an error and not a silent choice."""


def _mapping(loader: NoDuplicates, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(key, deep=True) for key, _ in node.value]  # type: ignore[no-untyped-call]
    twice = next((key for key in keys if keys.count(key) > 1), None)
    if twice is not None:
        line = node.start_mark.line + 1
        raise yaml.YAMLError(f"the field {twice!r} stands twice (in the part at line {line})")
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


NoDuplicates.add_constructor("tag:yaml.org,2002:map", _mapping)
