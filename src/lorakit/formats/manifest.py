"""`lorakit.json`: what stands beside an adapter to prove that it is whole and whose it is."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from importlib import metadata
from typing import Any

from lorakit.core.errors import AdapterFileError
from lorakit.formats.tensors import read_json

MANIFEST = "lorakit.json"
SCHEMA = 1
_PACKAGES = ("lorakit", "torch", "transformers", "safetensors")  # all of them required


def sha256(data: bytes) -> str:
    """The hash of some bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def write(
    files: Mapping[str, bytes], *, base: dict[str, Any], adapter: dict[str, Any],
    run: dict[str, Any] | None = None,
) -> bytes:  # fmt: skip
    """The manifest of an adapter's files; `run` tells of the training that made it."""
    content = {
        "schema": SCHEMA,
        "files": {n: {"bytes": len(d), "sha256": sha256(d)} for n, d in sorted(files.items())},
        "adapter": adapter,
        "base": base,
        "versions": versions(),
        "run": run or {},
    }
    return (json.dumps(content, indent=2) + "\n").encode()


def read(files: Mapping[str, bytes], where: str) -> dict[str, Any] | None:
    """The manifest among the files, after every file it lists was found unchanged; or None."""
    if MANIFEST not in files:
        return None
    content = parse(files[MANIFEST], where)
    for name, entry in content["files"].items():
        expected = entry.get("sha256") if isinstance(entry, dict) else None
        if name not in files:
            raise AdapterFileError(f"{where} lacks {name}, which {MANIFEST} lists. Fetch it again.")
        if sha256(files[name]) != expected:
            raise AdapterFileError(
                f"{where}/{name} is not what {MANIFEST} says was saved: it is damaged or was "
                f"edited. Fetch it again; if the edit was meant, delete {MANIFEST}."
            )
    return content


def parse(data: bytes, where: str) -> dict[str, Any]:
    """A manifest as it stands, compared with no file. Raises `AdapterFileError`."""
    here = f"{where}/{MANIFEST}"
    content = read_json(data, here)
    shapes = ("files", "adapter", "base", "run")
    bad = next((key for key in shapes if not isinstance(content.get(key), dict)), None)
    if content.get("schema") != SCHEMA or bad:
        problem = f"{bad} is missing" if bad else f"its schema is {content.get('schema')!r}"
        raise AdapterFileError(
            f"{here} cannot be read: {problem}; expected schema {SCHEMA}. Use the version of "
            "lorakit that wrote it, or delete the file to load the adapter without proof."
        )
    return content


def versions() -> dict[str, str]:
    """The versions of what computed: Python and the packages that matter to the numbers."""
    installed = {package: metadata.version(package) for package in _PACKAGES}
    return {"python": platform.python_version(), **installed}
