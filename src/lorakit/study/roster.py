"""The methods that studies compare: a short name each, and what it sets in a recipe."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from lorakit.core.errors import RecipeError, did_you_mean
from lorakit.train.options import SIZED


@dataclass(frozen=True)
class Entry:
    """A method with its size and places; `family` is what kinds of method are coloured by."""

    name: str
    family: str
    method: str
    lora: dict[str, Any]

    @property
    def overrides(self) -> dict[str, Any]:
        """The fields of the recipe, by their dotted names; the rest of `lora` is as by default."""
        return {"method": self.method, "lora": dict(self.lora)}


def _low_rank(name: str, method: str, **lora: Any) -> Entry:
    return Entry(name, "low rank", method, {"rank": 8, "alpha": 16, **lora})


_QV = ["q", "v"]
ROSTER = {
    own.name: own
    for own in (
        Entry("full", "base's own parameters", "full", {}),
        Entry("top", "base's own parameters", "top", {"rank": 2}),
        Entry("bitfit", "base's own parameters", "bitfit", {}),
        Entry("norms", "base's own parameters", "norms", {}),
        Entry("probe", "base's own parameters", "probe", {}),
        Entry("houlsby", "bottlenecks", "houlsby", {"rank": 16}),
        Entry("pfeiffer", "bottlenecks", "pfeiffer", {"rank": 16}),
        Entry("parallel", "bottlenecks", "parallel", {"rank": 16}),
        Entry("prefix", "prompts and scales", "prefix", {"rank": 10}),
        Entry("prompt", "prompts and scales", "prompt", {"rank": 20}),
        Entry("ia3", "prompts and scales", "ia3", {}),
        _low_rank("lora", "lora", targets=_QV),
        _low_rank("lora-all", "lora"),
        _low_rank("dora", "dora", targets=_QV),
        _low_rank("adalora", "adalora", targets=_QV),
    )
}  # fmt: skip


def entry_named(said: str) -> Entry:
    """The entry of a name, or of `name:size` with another size; `RecipeError` for any other."""
    name, colon, size = said.partition(":")
    if name not in ROSTER:
        raise RecipeError(
            f"{name!r} is no method to compare: {', '.join(ROSTER)}.{did_you_mean(name, ROSTER)}"
        )
    own = ROSTER[name]
    if not colon:
        return own
    if own.method not in SIZED or not size.isdecimal() or int(size) < 1:
        raise RecipeError(
            f"{said!r}: expected a whole number behind the colon, and a method that has a size "
            f"({', '.join(n for n, e in ROSTER.items() if e.method in SIZED)})."
        )
    lora = {**own.lora, "rank": int(size)}
    if "alpha" in lora:
        lora["alpha"] = 2 * int(size)
    return replace(own, name=said, lora=lora)
