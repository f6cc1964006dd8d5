"""`python -m lorakit.jobs FOLDER LOCK`: leave at once, and go on as a worker of one's own."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from lorakit.jobs.lock import sign


def main(program: Sequence[str] = ()) -> None:
    """Begin a worker for the queue in a folder, with the lock that is open as this number.

    `program` is what recipes are trained by, where it is not `lorakit train`.
    """
    folder, lock = Path(sys.argv[1]), int(sys.argv[2])
    os.ftruncate(lock, 0)  # what an earlier worker wrote of itself
    child = os.fork()
    if child:
        sign(lock, child)  # before whoever waits for us goes on, and may want to stop it
        os._exit(0)
    os.set_inheritable(lock, False)
    os.chdir("/")

    # Only now: nobody is to wait until all that a worker needs is imported.
    from lorakit.jobs.processes import TRAIN
    from lorakit.jobs.worker import work

    work(folder, lock, program or TRAIN)


if __name__ == "__main__":
    main()
