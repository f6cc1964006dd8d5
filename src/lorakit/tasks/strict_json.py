"""JSON as rows have it: every oddity is an error that says where."""

from __future__ import annotations

import json
import re
from typing import Any

from lorakit.core.errors import DataError

_HALF = re.compile(r"\\u[dD][89a-fA-F]")


def read_json(text: str, where: str) -> Any:
    """The value in a text, all of whose own texts can be written; or `DataError`."""
    try:
        value = json.loads(text)
        if _HALF.search(text):  # half of a pair is no text, and no tokenizer takes it
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"{where}: it escapes one half of a pair of UTF-16 (\\ud800 to \\udfff) without the "
            "other. Take it out, or write the whole character."
        ) from error
    except (ValueError, RecursionError) as error:
        hint = " Is it JSON lines? Then name it .jsonl." if "Extra data" in str(error) else ""
        raise DataError(f"{where}: not valid JSON ({error}).{hint}") from error
    return value
