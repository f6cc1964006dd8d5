"""Adapters as cards, and one of them in detail. All that was found in files is escaped."""

from __future__ import annotations

import base64
import functools
import io
import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from lorakit.analysis.heatmap import grid, in_order
from lorakit.analysis.inspect import Inspection
from lorakit.demo import base_folder
from lorakit.library.entry import Entry
from lorakit.web.chart import chart
from lorakit.web.told import alert, size

# A click on a card tells which; cards are buttons, so that the keyboard does as well.
ON_LOAD = """
element.addEventListener('click', (event) => {
  const card = event.target.closest('button[data-entry]');
  if (card) trigger('click', {entry: card.dataset.entry});
});
"""
OURS = "the tiny storyteller"  # the base that comes along
SIDE = 256  # pixels of a preview
LARGEST = 20_000_000  # bytes of a picture that is looked at
CARD = """<li><button type="button" class="card" data-entry="{}">{}<b>{}</b><span>{}</span>
<small>{}</small>{}</button></li>"""


def shelf(entries: Sequence[Entry], *, more: int = 0) -> str:
    """The cards of a search."""
    if not entries:
        return (
            '<p class="empty">No adapter here yet, or none that fits: train one, import one, or '
            "look with fewer words.</p>"
        )
    cards = Markup("").join(map(_card, entries))
    rest = Markup('<p class="empty">and {:,} more: search for them</p>').format(more)
    return str(Markup('<ul class="cards">{}</ul>{}').format(cards, rest if more > 0 else ""))


def _card(entry: Entry) -> Markup:
    facts = [entry.method, f"rank {entry.rank}" if entry.rank else "", size(entry.bytes)]
    told = [entry.base and f"on {base_name(entry.base)}", entry.task, entry.date[:10]]
    words = [*entry.triggers[:4], *entry.tags[:4]]
    labels = Markup("").join(Markup("<i>{}</i>").format(own[:40]) for own in words)
    wrong = Markup('<em class="wrong">{}</em>').format(entry.problem[:160]) if entry.problem else ""
    return Markup(CARD).format(
        entry.id, picture(entry.preview), entry.shown[:120],
        " · ".join(own for own in facts if own), " · ".join(own for own in told if own),
        wrong or labels or Markup('<q>{}</q>').format(entry.sample[:120]) if (
            wrong or labels or entry.sample) else "",
    )  # fmt: skip


def base_name(base: str) -> str:
    """What people call a base: the end of its path or id."""
    return OURS if base == str(base_folder()) else Path(base).name


def picture(path: str | None) -> Markup:
    """A preview as part of the page, drawn anew from its pixels; nothing where it is no picture."""
    if path is None:
        return Markup("")
    try:
        when = Path(path).stat().st_mtime_ns
    except OSError:
        return Markup("")
    data = _thumbnail(path, when)
    return (
        Markup('<img alt="" src="data:image/jpeg;base64,{}">').format(data) if data else Markup("")
    )


@functools.lru_cache(maxsize=512)
def _thumbnail(path: str, when: int) -> str:
    from PIL import Image

    del when  # part of the key
    try:
        if Path(path).stat().st_size > LARGEST:
            return ""
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=("PNG", "JPEG", "WEBP")) as image:
                image.thumbnail((SIDE, SIDE))
                out = io.BytesIO()
                image.convert("RGB").save(out, "JPEG", quality=80)
    except (OSError, ValueError, SyntaxError, Warning, Image.DecompressionBombError):
        return ""  # damaged, or no picture: the card does without
    return base64.b64encode(out.getvalue()).decode()


def detail(entry: Entry, found: Inspection | None, problem: str = "") -> str:
    """What is known of one adapter: facts, and where and how much it changes."""
    facts: dict[str, Any] = {
        "where": _below(entry, entry.path),
        "base": OURS if entry.base == str(base_folder()) else entry.base,
        "task": entry.task, "method": entry.method, "format": entry.format, "rank": entry.rank,
        "parameters": f"{entry.parameters:,}",
        "size": size(entry.bytes), "trigger words": ", ".join(entry.triggers),
        "tags": ", ".join(entry.tags), "made": entry.date, "from": entry.source,
        "run": _below(entry, entry.run or ""),
    }  # fmt: skip
    facts |= {name: f"{value:.4g}" for name, value in entry.metrics.items()}
    if found is not None:
        facts["trained in full"] = ", ".join(found.extras)
        facts["assumed"] = found.assumed
    rows = Markup("").join(
        Markup("<dt>{}</dt><dd>{}</dd>").format(name, value)
        for name, value in facts.items()
        if value
    )
    head = Markup("<h3>{}</h3>{}<p>{}</p>").format(
        entry.shown, picture(entry.preview), entry.description
    )
    wrong = alert(problem or entry.problem) if problem or entry.problem else ""
    return str(head) + wrong + str(Markup('<dl class="facts-of">{}</dl>').format(rows))


def _below(entry: Entry, path: str) -> str:
    """A path from the library's folder on, and that folder's own name first."""
    root = Path(entry.root)
    own = Path(path)
    return str(root.name / own.relative_to(root)) if path and own.is_relative_to(root) else path


def maps(found: Inspection) -> str:
    """Norms of the change and ranks, by block and place, as tables whose colour deepens."""
    if not found.layers:
        return '<p class="empty">It has no low-rank layers.</p>'
    norms = {own.path: own.norm for own in found.layers}
    ranks = {own.path: float(own.rank) for own in found.layers}
    first = heat("Norm of the change", norms, "{:.2g}")
    if len(set(ranks.values())) > 1:
        return first + heat("Rank", ranks, "{:.0f}")
    told = Markup("<p>Rank {:.0f} in each of {} layers.</p>").format(
        found.layers[0].rank, len(ranks)
    )
    return first + str(told)


def heat(title: str, values: Mapping[str, float], form: str) -> str:
    """One table of values by block and place."""
    there = grid({path: values[path] for path in in_order(values)})
    top = max((own for own in values.values() if math.isfinite(own)), default=1.0) or 1.0
    head = Markup("").join(Markup('<th scope="col">{}</th>').format(own) for own in there.columns)
    body = Markup("").join(
        Markup('<tr><th scope="row">{}</th>{}</tr>').format(
            row, Markup("").join(_value(own, top, form) for own in values)
        )
        for row, values in zip(there.rows, there.values)
    )
    return str(
        Markup(
            '<div class="blocks heat"><table><caption>{}</caption>'
            "<thead><tr><td></td>{}</tr></thead>"
            "<tbody>{}</tbody></table></div>"
        ).format(title, head, body)
    )


def _value(value: float, top: float, form: str) -> Markup:
    if math.isnan(value):
        return Markup("<td></td>")
    deep = round(10 + 90 * max(0.0, min(1.0, value / top))) if math.isfinite(value) else 100
    return Markup('<td style="--deep: {}%">{}</td>').format(deep, form.format(value))


def spectra(found: Mapping[str, Sequence[float]]) -> str:
    """The singular values of each layer, as shares of its largest."""
    lines = {
        path: [(number, value / values[0]) for number, value in enumerate(values, 1)]
        for path, values in found.items()
        if values[0] > 0
    }
    return chart(lines, title="Singular values of the change", x="number", y="share of the largest")
