"""What verbs print: text for people, JSON for machines, both on stdout."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any


def program() -> str:
    """How the user calls lorakit from where he stands: by its name where that is on the PATH."""
    beside = Path(sys.executable).parent / "lorakit"
    if shutil.which("lorakit"):
        return "lorakit"
    return os.path.relpath(beside) if beside.exists() else f"{sys.executable} -m lorakit"


def show(text: str, data: Any, *, as_json: bool) -> None:
    """Print the text, or the data as JSON."""
    print(json.dumps(data, ensure_ascii=False, default=str) if as_json else text)
