"""Patterns over module paths: exact paths, dotted endings, globs and ranges of layer numbers."""

from __future__ import annotations

import re
import sys
from functools import lru_cache


def matches(pattern: str, path: str) -> bool:
    """Whether `path` (dotted, as in `named_modules`) is meant by `pattern`.

    Without a wildcard a pattern is a path or the dotted end of one (`q_proj`, `attn.q_proj`).
    `*` stands for any text, dots too; `?` for one character of a part; a part that is a range
    (`layers.0-3.*`) for the numbers from the first to the last, or from the first on
    (`layers.20-*`, which ends with a star and so means all that is inside as well).
    """
    expression, ranges = _compiled(pattern)
    found = expression.fullmatch(path)
    if found is None:
        return False
    return all(low <= int(text) <= high for text, (low, high) in zip(found.groups(), ranges))


def is_glob(pattern: str) -> bool:
    """Whether `pattern` can only be a glob: it holds a wildcard or a range."""
    return "*" in pattern or "?" in pattern or bool(_compiled(pattern)[1])


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> tuple[re.Pattern[str], tuple[tuple[int, int], ...]]:
    ranges: list[tuple[int, int]] = []
    parts = []
    split = pattern.split(".")
    for place, part in enumerate(split):
        span = re.fullmatch(r"(\d+)-(\d+|\*)", part)
        if span:
            ranges.append((int(span[1]), sys.maxsize if span[2] == "*" else int(span[2])))
            inside = r"(?:\..*)?" if span[2] == "*" and place == len(split) - 1 else ""
            parts.append(r"(\d+)" + inside)
        else:
            # Collapsed stars keep the match linear enough: ".*.*" would only add backtracking.
            literal = re.escape(re.sub(r"\*+", "*", part))
            parts.append(literal.replace(r"\*", ".*").replace(r"\?", "[^.]"))
    ending = "" if "*" in pattern or "?" in pattern or ranges else r"(?:.*\.)?"
    return re.compile(ending + r"\.".join(parts), re.DOTALL), tuple(ranges)
