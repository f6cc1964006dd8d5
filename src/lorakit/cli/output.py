"""What verbs print: text for people, JSON for machines, both on stdout."""

from __future__ import annotations

import json
from typing import Any


def show(text: str, data: Any, *, as_json: bool) -> None:
    """Print the text, or the data as JSON."""
    print(json.dumps(data, ensure_ascii=False, default=str) if as_json else text)
