"""The worker as it is, but for what it trains by; it notes that it was begun."""

from __future__ import annotations

import sys
from pathlib import Path

from lorakit.jobs.__main__ import main

with Path(sys.argv[1], "workers.txt").open("a") as file:
    file.write("begun\n")
main((sys.executable, "-I", "-S", str(Path(__file__).with_name("stand_in.py"))))
