"""How much memory there is for a training step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

_SPARE = 0.6  # of what is free: the rest is for gradients, for values in passing, and for others


def room(model: Any) -> float:
    """Bytes that a step may keep on the model's device; infinite where nobody says."""
    if model.device.type == "cuda":
        return _SPARE * torch.cuda.mem_get_info(model.device)[0]
    told = Path("/proc/meminfo")
    lines = told.read_text().splitlines() if told.exists() else []
    free = next((line.split()[1] for line in lines if line.startswith("MemAvailable:")), None)
    return float("inf") if free is None else _SPARE * 1024 * int(free)
