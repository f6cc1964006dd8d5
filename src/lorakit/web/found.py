"""Bases and data files below the roots: what the lists of the page offer."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

DEEP = 5  # folders below a root
MOST = 20_000  # files and folders that are looked at below one root
DATA = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".txt")
WEIGHTS = (".safetensors", ".bin")
CONFIG_BYTES = 1_000_000
# Files beside models and runs that look like data and are none.
OURS = frozenset(
    (
        "config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json",
        "vocab.json", "special_tokens_map.json", "adapter_config.json", "added_tokens.json",
        "lorakit.json", "run.json", "metrics.json", "events.jsonl", "sweep.json", "study.json",
        "cells.jsonl", "vocab.txt", "merges.txt", "log.txt", "preprocessor_config.json",
        "model.safetensors.index.json", "package.json", "requirements.txt", "chat_template.json",
    )
)  # fmt: skip
SKIP = frozenset(("checkpoints", "node_modules", "__pycache__", "site-packages"))


@dataclass(frozen=True)
class Found:
    """What lies below the roots, in alphabetical order."""

    bases: tuple[Path, ...]
    data: tuple[Path, ...]


def look(roots: Sequence[Path]) -> Found:
    """Folders with a model, and files that may hold rows."""
    bases: set[Path] = set()
    data: set[Path] = set()
    for root in roots:
        for folder, files in _walk(root):
            if _is_base(folder, files):
                bases.add(folder)
                continue
            if "run.json" in files or "adapter_config.json" in files:
                continue  # a run or an adapter: its files are its own
            data |= {
                folder / name
                for name in files
                if name.endswith(DATA) and name not in OURS and not name.startswith(".")
            }
    return Found(tuple(sorted(bases)), tuple(sorted(data)))


def is_text(name: str) -> bool:
    """Whether a name can be sent to a browser: some systems have names that are no Unicode."""
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def _walk(root: Path) -> Iterator[tuple[Path, frozenset[str]]]:
    seen = 0
    for name, folders, every in os.walk(root):
        folder = Path(name)
        depth = len(folder.relative_to(root).parts)
        files = [own for own in every if is_text(own)]
        folders[:] = sorted(
            own for own in folders
            if not own.startswith(".") and own not in SKIP and depth < DEEP and is_text(own)
        )  # fmt: skip
        seen += len(folders) + len(files)
        if seen > MOST:
            return
        yield folder, frozenset(files)


def _is_base(folder: Path, files: frozenset[str]) -> bool:
    if "config.json" not in files or "adapter_config.json" in files:
        return False
    if not any(name.endswith(WEIGHTS) for name in files):
        return False
    config = folder / "config.json"
    try:
        if config.stat().st_size > CONFIG_BYTES:
            return False
        return "model_type" in json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False
