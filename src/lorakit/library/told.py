"""What the tools that make image adapters write into a file's header, as facts for a card.

The keys are those of kohya's sd-scripts (`ss_`) and of Stability's ModelSpec 1.0 (`modelspec.`).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from lorakit.library.untrusted import text, texts

_MOST_TAGS = 12  # of the captions' words, the most frequent
_LONGEST_WORD = 50  # letters; captions that are whole sentences make no tags
_MOST_JSON = 2**21


@dataclass(frozen=True)
class Told:
    """Facts of one header; "" and () where it has none."""

    title: str = ""
    base: str = ""
    description: str = ""
    date: str | float | None = None
    triggers: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()


def told_by(header: Mapping[str, str]) -> Told:
    """The facts in a header's texts."""
    spec = {key.removeprefix("modelspec."): own for key, own in header.items()}
    base = header.get("ss_sd_model_name") or header.get("ss_base_model_version")
    return Told(
        title=text(spec.get("title")) or text(header.get("ss_output_name")),
        base=text(base) or text(header.get("ss_base_model")) or text(spec.get("architecture")),
        description=text(spec.get("description")) or text(header.get("ss_training_comment")),
        date=spec.get("date") or _seconds(header.get("ss_training_finished_at")),
        triggers=texts(spec.get("trigger_phrase"), split=","),
        tags=texts(spec.get("tags"), split=",") or _frequent(header.get("ss_tag_frequency", "")),
    )


def _frequent(written: str) -> tuple[str, ...]:
    """The words that the captions of most pictures have: {folder: {word: count}} as JSON."""
    try:
        folders = json.loads(written) if 0 < len(written) <= _MOST_JSON else None
    except (ValueError, RecursionError):
        return ()
    counts: Counter[str] = Counter()
    for words in folders.values() if isinstance(folders, dict) else ():
        for word, count in words.items() if isinstance(words, dict) else ():
            if isinstance(count, int) and 0 < count < 2**40 and len(word) <= _LONGEST_WORD:
                counts[word] += count
    return texts([word for word, _ in counts.most_common(_MOST_TAGS)])


def _seconds(written: str | None) -> float | None:
    try:
        return float(written) if written and len(written) < 30 else None
    except ValueError:
        return None
