"""Files that come in by the browser: their name is checked here, their content where it is read."""

from __future__ import annotations

import re
import shutil
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
    number, target = 1, place.uploads / f"{stem}{kind}"
    while target.exists():
        number += 1
        target = place.uploads / f"{stem}-{number}{kind}"
    shutil.copyfile(source, place.inside(target))
    return target
