"""YAML as recipes have it: a field that stands twice is a mistake, and nothing in it is endless."""

from __future__ import annotations

from typing import Any

import yaml

from lorakit.core.errors import ODDITIES, RecipeError

MOST = 10_000  # values of a text, those that its anchors repeat included
LARGEST = 2**63 - 1  # what a seed or a count of steps may be anywhere


class NoDuplicates(yaml.SafeLoader):
    """YAML where a key that stands twice is an error and not a silent choice."""

    def get_single_node(self) -> Any:
        """The text's tree, unless anchors make much more of it than was written."""
        node = super().get_single_node()
        if node is not None and _size(node, {}) > MOST:
            raise yaml.YAMLError(f"it stands for more than {MOST} values")
        return node


def read_yaml(text: str, where: str) -> Any:
    """What a text says, or `RecipeError` that begins with `where`."""
    try:
        return yaml.load(text, Loader=NoDuplicates)
    except RecursionError:
        raise RecipeError(f"{where} is nested too deeply. Write it with fewer brackets.") from None
    except (yaml.YAMLError, *ODDITIES) as error:  # such as a date in a month that is none
        why = " ".join(str(error).split())[:300]
        raise RecipeError(f"{where} is not valid YAML: {why}.") from error


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values a tree has where each alias counts as all that it repeats."""
    if id(node) in known:
        return known[id(node)]
    known[id(node)] = MOST  # until it is known: a value inside itself has no end
    inner: list[Any] = node.value if isinstance(node, yaml.CollectionNode) else []
    parts = [part for own in inner for part in (own if isinstance(own, tuple) else (own,))]
    known[id(node)] = 1 + sum(_size(part, known) for part in parts)
    return known[id(node)]


def _mapping(loader: NoDuplicates, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(key, deep=True) for key, _ in node.value]  # type: ignore[no-untyped-call]
    twice = next((key for key in keys if keys.count(key) > 1), None)
    if twice is not None:
        line = node.start_mark.line + 1
        raise yaml.YAMLError(f"the field {twice!r} stands twice (in the part at line {line})")
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


def _whole(loader: NoDuplicates, node: yaml.ScalarNode) -> int:
    value = yaml.SafeLoader.construct_yaml_int(loader, node)
    if abs(value) > LARGEST:
        raise yaml.YAMLError(f"{node.value[:40]} is more than any number here can be")
    return value


NoDuplicates.add_constructor("tag:yaml.org,2002:map", _mapping)
NoDuplicates.add_constructor("tag:yaml.org,2002:int", _whole)
