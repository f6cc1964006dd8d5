"""Memory that was freed, given back to the system: a study of hours would else hold ever more."""

from __future__ import annotations

import ctypes
import gc


def trim() -> None:
    """Collect what is not reachable, and let glibc return free pages of all its arenas.

    Runs train in threads, and glibc keeps an arena for each of them. Without glibc nothing more is
    done than to collect.
    """
    gc.collect()
    try:
        give_back = ctypes.CDLL(None).malloc_trim
    except (AttributeError, TypeError, OSError):  # another C library; Windows has no CDLL(None)
        return
    give_back(0)
