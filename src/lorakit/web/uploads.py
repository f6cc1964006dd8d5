"""Files that come in by the browser: their name is checked here, their content where it is read."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from contextlib import suppress
from pathlib import Path

from lorakit.core.errors import LorakitError
from lorakit.library.names import usable
from lorakit.web.place import Place

ROWS = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".txt")


def take_in(place: Place, file: str | None) -> Path:
    """Put an uploaded file beside the page's data, under its own name or the next free one."""
    if file is None:
        raise LorakitError("No file came. Choose one.")
    source = Path(file)
    kind = source.suffix.lower()
    if kind not in ROWS:
        raise LorakitError(
            f"{source.name[:100]!r} holds no rows by its name; expected {', '.join(ROWS)}."
        )
    place.uploads.mkdir(parents=True, exist_ok=True)
    stem = usable(re.sub(r"[^\w -]+", "_", source.stem).strip(" _") or "rows")
    staged = place.inside(place.uploads / f".{stem}.partial-{secrets.token_hex(4)}")
    try:
        shutil.copyfile(source, staged)
        return _put(staged, place, stem, kind)
    except OSError as error:
        raise LorakitError(
            f"{source.name[:100]!r} cannot be kept: {error.strerror}. Free some space, and send it "
            "again."
        ) from error
    finally:
        staged.unlink(missing_ok=True)


def _put(staged: Path, place: Place, stem: str, kind: str) -> Path:
    """Give a whole file the first name that is free, whoever else sends one of the same name."""
    number, target = 1, place.uploads / f"{stem}{kind}"
    while True:
        with suppress(FileExistsError):
            os.link(staged, place.inside(target))
            return target
        number += 1
        target = place.uploads / f"{stem}-{number}{kind}"
