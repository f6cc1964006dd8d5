"""What the machine has: its free memory, and how fast it multiplies and moves numbers."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

SIZE = 1024  # rows and columns of the matrices that are multiplied
MOVED = 2**24  # numbers of the tensors that are added


@dataclass(frozen=True)
class Speed:
    """FLOPs and bytes per second, and the seconds that any operation takes to begin."""

    flops: float
    bytes: float
    start: float

    def seconds(self, flops: int, moved: int) -> float:
        """The time of an operation, which either its products or its bytes decide."""
        return self.start + max(flops / self.flops, moved / self.bytes)


def free_memory(device: torch.device | str = "cpu") -> int | None:
    """Bytes that a new process could have here, on a GPU or of the machine; None if not known."""
    if torch.device(device).type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    table = Path("/proc/meminfo")
    if table.exists():
        lines = dict(line.split(":", 1) for line in table.read_text().splitlines())
        return int(lines["MemAvailable"].split()[0]) * 1024
    return None


def process_bytes() -> int | None:
    """Resident bytes of this process, which has torch and transformers in it; None if not known."""
    table = Path("/proc/self/statm")
    if not table.exists():
        return None
    return int(table.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measure_speed(
    dtype: torch.dtype, device: torch.device | str = "cpu", *, seconds: float = 1.0,
    clock: Callable[[], float] = time.perf_counter,
) -> Speed:  # fmt: skip
    """The speed of this machine, with the threads that torch has now, in about so many seconds."""
    made = {"device": device, "dtype": dtype}
    left, right = torch.ones(SIZE, SIZE, **made), torch.ones(SIZE, SIZE, **made)
    many, few = torch.ones(MOVED, **made), torch.ones(1, **made)
    part = seconds / 3
    product = _median(lambda: left @ right, part, clock)
    # New memory is taken each time, as in a step: pages that the system hands out cost time.
    addition = _median(lambda: many + many, part, clock)
    start = _median(lambda: few + few, part, clock)
    return Speed(2 * SIZE**3 / product, 3 * many.nbytes / addition, start)


def _median(work: Callable[[], object], seconds: float, clock: Callable[[], float]) -> float:
    work()
    times = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        began = clock()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(clock() - began)
    return sorted(times)[len(times) // 2]
