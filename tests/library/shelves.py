"""Files of adapters for tests, and what a folder holds."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from safetensors.torch import save_file


def kohya(path: Path, **metadata: str) -> Path:
    module = "lora_unet_mid_block_attentions_0_proj_in"
    tensors = {
        f"{module}.lora_down.weight": torch.full((4, 6), 0.5),
        f"{module}.lora_up.weight": torch.full((8, 4), 0.25), f"{module}.alpha": torch.tensor(4.0),
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, metadata=metadata or None)
    path.with_name(f"{path.stem}.preview.png").write_bytes(b"\x89PNG")
    return path


def tree(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file below a folder: its bytes and its time."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            state = os.stat(path)
            found[str(path.relative_to(folder))] = (path.read_bytes(), state.st_mtime_ns)
    return found
