"""The three choices of a training, base, data and goal, and the recipe that they make."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorakit.core.errors import LorakitError
from lorakit.demo import base_folder
from lorakit.demo.recipe import demo_recipe
from lorakit.library.names import check_file_name
from lorakit.models.load import kind_of, read_config
from lorakit.tasks.options import DataOptions
from lorakit.train.preview import tasks_for
from lorakit.web.found import Found, look
from lorakit.web.place import Place

STORIES = "little stories"  # the data that come along
STORYTELLER = "Tiny storyteller, comes along"  # the base that does
GOALS = {
    "completion": "Answer prompts",
    "chat": "Answer in conversations",
    "text": "Write like these texts",
    "classification": "Sort texts into classes",
    "regression": "Give texts a score",
    "seq2seq": "Rewrite texts",
}
FITS = {
    "causal": ("completion", "chat", "text", "classification", "regression"),
    "classes": ("classification", "regression"),
    "seq2seq": ("seq2seq",),
}
HUB = re.compile(r"[\w][\w.-]*/[\w][\w.-]*", re.ASCII)
Pairs = list[tuple[str, str]]


@dataclass
class Choices:
    """What can be chosen at a place."""

    place: Place

    def lists(self) -> tuple[Pairs, Pairs]:
        """(bases, data) as (what is shown, value)."""
        found: Found = look(self.place.roots)
        bases = [(STORYTELLER, str(base_folder()))]
        bases += [(self.place.short(own), str(own)) for own in found.bases]
        data = [("Little stories, come along", STORIES)]
        data += [(self.place.short(own), str(own)) for own in found.data]
        return bases, data

    def base(self, said: str | None) -> str:
        """The base of a recipe for what was chosen: a folder of the lists, or a hub id."""
        text = (said or "").strip()
        if not text:
            raise LorakitError("No base is chosen. Choose one from the list.")
        if text == str(base_folder()) or (HUB.fullmatch(text) and not Path(text).exists()):
            return text
        return str(self.place.inside(text))

    def has(self, base: str) -> bool:
        """Whether a base that an adapter names can be loaded from here."""
        with suppress(LorakitError, OSError):
            place = Path(self.base(base))
            return place.is_dir()
        return False

    def data(self, said: str | None) -> dict[str, Any]:
        """The fields of `data`, by dotted name, for what was chosen."""
        text = (said or "").strip()
        if not text:
            raise LorakitError("No data are chosen. Choose a file, or upload one.")
        if text != STORIES:
            return {"data.train": str(self.place.inside(text))}
        return {"data.train": str(self.place.uploads / "stories" / "train.jsonl")}

    def stories(self) -> dict[str, Any]:
        """The recipe of the data that come along, whose files are written at first use."""
        folder = self.place.uploads / "stories"
        return demo_recipe(folder, str(self.place.runs / "stories")).model_dump()

    def goals(self, base: str, data: Mapping[str, Any]) -> list[str]:
        """The tasks that base and data allow, the likeliest first; raises what reading raises."""
        fitting = FITS[kind_of(read_config(base))]
        options = {name.removeprefix("data."): value for name, value in data.items()}
        found = [task for task in tasks_for(DataOptions(**options)) if task in fitting]
        if not found:
            raise LorakitError(
                "These rows fit no goal of this base. Expected are fields such as prompt and "
                "completion, text and label, messages, or text; others can be named under "
                "All settings, Data."
            )
        return found

    def output(self, name: str | None) -> str:
        """The run's folder for a name; raises where it is no name for a folder."""
        text = (name or "").strip()
        if not re.fullmatch(r"[\w][\w .-]{0,79}", text) or text.endswith((".", " ")):
            raise LorakitError(
                f"{text[:100]!r} is no name for a run. Use letters, digits, spaces, - and _."
            )
        return str(self.place.runs / check_file_name(text))

    def free_name(self, data: str | None) -> str:
        """A name for the next run that is not taken."""
        stem = _word(STORIES if data == STORIES else Path(data or "run").stem)
        number, name = 1, stem
        while (self.place.runs / name).exists():
            number += 1
            name = f"{stem}-{number}"
        return name


def _word(text: str) -> str:
    return re.sub(r"[^\w-]+", "-", text, flags=re.ASCII).strip("-_")[:60] or "run"
