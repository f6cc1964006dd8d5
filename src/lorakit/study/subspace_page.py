"""The tables and pictures of the subspace study, from its records alone."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from lorakit.study.figures import Axis, Picture, Series, lines
from lorakit.study.kinds import Record, Shown
from lorakit.study.maps import Sides, heatmap
from lorakit.study.table import Column, Table

MAPS, PANELS = 4, 6  # pictures of pairs, and layers in each
# |W|, |dW| and |U^T W V^T| along dW, W and random directions: the 48th layer's query of GPT-3 175B,
# table 7 of the paper.
PAPER = {4: (61.95, 6.91, 0.32, 21.67, 0.02), 64: (61.95, 3.57, 1.90, 37.71, 0.33)}


def show(records: Sequence[Record], of: str) -> Shown:
    """Similarities of pairs, amplification, and spectra."""
    alone = {
        own.settings["adapter"]: own.figures["modules"]
        for own in records
        if "adapter" in own.settings and "beside" not in own.settings
    }
    pairs = [own for own in records if "beside" in own.settings and "like" not in own.settings]
    chance = {own.settings["like"]: own for own in records if "like" in own.settings}
    trained = [own for own in records if "train" in own.settings]
    short = _short([path for modules in alone.values() for path in modules])
    tables = [_trained(trained)] if trained else []
    pictures = []
    if pairs:
        tables.append(_pairs(pairs, chance, of))
        pictures += [_map(own, short, of) for own in _chosen(pairs)]
        pictures += [_map(own, short, of) for own in _widest(list(chance.values()))]
    if alone:
        tables += [_amplified(alone, short), _spectra(alone, short)]
        pictures.append(_values(alone, short))
    return Shown(_findings(alone, pairs, chance), tables, pictures)


def _trained(records: Sequence[Record]) -> Table:
    names = [
        name
        for name in ("loss", "eval_loss")
        if all(name in own.figures for own in records)
    ]  # fmt: skip
    columns = [Column("adapter"), *(Column(name.replace("_", " "), digits=4) for name in names)]
    rows = [[own.settings["train"], *(own.figures[name] for name in names)] for own in records]
    return Table("trained", "The adapters that were trained", columns, rows)


def _pairs(pairs: Sequence[Record], chance: Mapping[str, Record], of: str) -> Table:
    rows = []
    for own in pairs:
        one, two = own.settings["adapter"], own.settings["beside"]
        wider = one if own.figures["ranks"][0] >= own.figures["ranks"][1] else two
        at = min(8, *own.figures["ranks"])
        random = chance.get(wider)
        rows.append([
            one, two, _mean(own, 1, 1), _mean(own, at, at), _mean(own, *own.figures["ranks"]),
            _mean(random, 1, 1) if random else None, _mean(random, at, at) if random else None,
        ])  # fmt: skip
    columns = [
        Column("adapter"), Column("beside"), Column("\u03c6(1,\u00a01)", digits=2),
        Column("\u03c6(8,\u00a08)", digits=2), Column("\u03c6 of all", digits=2),
        Column("random: \u03c6(1,\u00a01)", digits=2),
        Column("random: \u03c6(8,\u00a08)", digits=2),
    ]  # fmt: skip
    listens = "A's right singular vectors" if of == "A" else "the change's right singular vectors"
    notes = [
        f"\u03c6(i, j) of {listens}, the mean over the layers shown: 0 for nothing in common, 1 "
        "where one space lies inside the other (equation 4). Random: two spaces of the wider "
        "adapter's size drawn at random. Adapters of a smaller rank than 8 are compared in all of "
        "theirs.",
    ]
    return Table("similarity", "What pairs of adapters have in common", columns, rows, notes)


def _amplified(alone: Mapping[str, Mapping[str, Any]], short: Mapping[str, str]) -> Table:
    rows = []
    for name, modules in alone.items():
        for path, own in modules.items():
            rows.append([
                name, short[path], own["rank"], own["weight"], own["change"], own["along"],
                own["along_top"], own["along_random"], _factor(own),
            ])  # fmt: skip
    for rank, (weight, change, along, top, random) in PAPER.items():
        where = "the paper, GPT-3"
        rows.append([where, "layer 48, q", rank, weight, change, along, top, random,
                     change / along])  # fmt: skip
    columns = [
        Column("adapter"), Column("layer"), Column("rank"), Column("\u2016W\u2016", digits=2),
        Column("\u2016\u0394W\u2016", digits=2), Column("along \u0394W", digits=2),
        Column("along W", digits=2), Column("along random", digits=2), Column("factor", digits=1),
    ]  # fmt: skip
    notes = [
        "Along: \u2016U\u22a4WV\u2016 with the first singular directions, as many as the rank, of "
        "\u0394W, of W itself, and random ones. Factor: \u2016\u0394W\u2016 over the first of "
        "these, by how much \u0394W strengthens what W has along it (table 7).",
    ]
    title = "What adapters strengthen in the weights they change"
    return Table("amplification", title, columns, rows, notes, sections=0)


def _spectra(alone: Mapping[str, Mapping[str, Any]], short: Mapping[str, str]) -> Table:
    rows = [
        [name, short[path], own["rank"], own["effective_rank"], own["participation"],
         own["rank_90"], own["rank_99"]]
        for name, modules in alone.items()
        for path, own in modules.items()
    ]  # fmt: skip
    columns = [
        Column("adapter"),
        Column("layer"),
        Column("rank"),
        Column("by entropy", digits=1),
        Column("by participation", digits=1),
        Column("holds 90 %"),
        Column("holds 99 %"),
    ]
    notes = [
        "The rank that a change really has: e to the entropy of its singular values' shares; "
        "(sum of squares)\u00b2 over the sum of fourth powers; and how many singular values hold "
        "90 and 99 % of the squared norm.",
    ]
    return Table("rank", "How many directions a change really uses", columns, rows, notes,
                 sections=0)  # fmt: skip


def _map(record: Record, short: Mapping[str, str], of: str) -> Picture:
    one, two = record.settings["adapter"], record.settings["beside"]
    grids: dict[str, Any] = record.figures["similarity"]
    paths = list(grids)
    step = max(1, -(-len(paths) // PANELS))
    panels = {short.get(path, path): grids[path] for path in paths[::step][:PANELS]}
    if "like" in record.settings:
        rank = record.figures["ranks"][0]
        name, who = f"random-{rank}", f"two random spaces of rank {rank}"
        sides = Sides(f"i, random, rank {rank}", f"j, random, rank {rank}")
    else:
        name, who = _file(f"{one} {two}"), f"{one} and {two}"
        sides = Sides(f"i of {one}", f"j of {two}")
    caption = (
        f"Similarity \u03c6(i, j) of the first i and j directions of {who}, by layer "
        f"({'rows of A' if of == 'A' else 'the change'}; equation 4). 1: one inside the other."
    )
    return heatmap(f"similarity-{name}", caption, panels, sides, unit="\u03c6(i, j)", span=(0, 1))


def _values(alone: Mapping[str, Mapping[str, Any]], short: Mapping[str, str]) -> Picture:
    path = next(iter(next(iter(alone.values()))))
    known = {name: modules[path]["values"] for name, modules in alone.items() if path in modules}
    longest = max(map(len, known.values()))
    series = []
    for name, values in known.items():
        # What is below a millionth of the largest is rounding.
        shares = [v / values[0] if values[0] and v > 1e-6 * values[0] else None for v in values]
        filled = [float("nan") if share is None else share for share in shares]
        series.append(Series(name, filled + [float("nan")] * (longest - len(filled))))
    caption = f"Singular values of the change of {short[path]}, over the largest."
    y = Axis("singular value, over the largest", log=True)
    return lines("spectrum", caption, (Axis("number"), range(1, longest + 1)), y, series)


def _chosen(pairs: Sequence[Record]) -> list[Record]:
    """Pairs to draw: first one of other ranks and one of the same, the widest; then others."""
    other = [own for own in pairs if len(set(own.figures["ranks"])) > 1]
    same = _widest([own for own in pairs if len(set(own.figures["ranks"])) == 1])
    first = [*other[:1], *same]
    rest = [own for own in pairs if own not in first]
    return [*first, *rest[: max(0, min(MAPS, len(pairs)) - len(first))]]


def _widest(records: Sequence[Record]) -> list[Record]:
    return [max(records, key=lambda own: own.figures["ranks"])] if records else []


def _mean(record: Record, i: int, j: int) -> float:
    """The mean over layers of phi(i, j), or of the last place there is."""
    found = []
    for grid in record.figures["similarity"].values():
        row = grid[min(i, len(grid)) - 1]
        found.append(row[min(j, len(row)) - 1])
    return statistics.fmean(found)


def _findings(
    alone: Mapping[str, Mapping[str, Any]], pairs: Sequence[Record], chance: Mapping[str, Record]
) -> list[str]:
    found = []
    if pairs and chance:
        mean = statistics.fmean(_mean(own, 1, 1) for own in pairs)
        random = statistics.fmean(_mean(own, 1, 1) for own in chance.values())
        found.append(
            f"The first directions of two adapters have a similarity of {mean:.2f} on average over "
            f"pairs and layers; those of random spaces {random:.2f}."
        )
    factors: dict[int, list[float]] = {}
    for modules in alone.values():
        for own in modules.values():
            factor = _factor(own)
            if factor is not None:
                factors.setdefault(own["rank"], []).append(factor)
    if factors:
        told = ", ".join(
            f"{statistics.median(own):.1f} at rank {rank}" for rank, own in sorted(factors.items())
        )
        found.append(f"The median amplification factor is {told}.")
    return found


def _factor(own: Mapping[str, float]) -> float | None:
    """The amplification factor; none where the weight has nothing along the change."""
    return own["change"] / own["along"] if own["along"] else None


def _short(paths: Sequence[str]) -> dict[str, str]:
    """Paths without the parts with which all of them begin."""
    split = [path.split(".") for path in dict.fromkeys(paths)]
    same = 0
    while split and all(len(own) > same + 1 and own[same] == split[0][same] for own in split):
        same += 1
    if same and any(own[same].isdigit() for own in split):
        same -= 1  # "layers.0", and not "0"
    return {".".join(own): ".".join(own[same:]) for own in split}


def _file(text: str) -> str:
    """A text as a part of a file's name."""
    words = "".join(sign if sign.isalnum() else " " for sign in text).split()
    return "-".join(words)[:80]
