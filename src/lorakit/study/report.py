"""What a study came to, as files: a page to read, tables to paste, pictures, and the numbers."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

from lorakit.core.folder import write_whole
from lorakit.study.figures import Picture
from lorakit.study.identity import read_study
from lorakit.study.kinds import Record, Setting, Shown, Study
from lorakit.study.page import image, page

REPORT, MARKDOWN, LATEX, PICTURES = "report.html", "tables.md", "tables.tex", "figures"
_STYLE = """
  figure { margin: 1.6rem 0; }
  figcaption { font-weight: 600; margin-bottom: .4rem; }
  .picture figcaption { font-weight: normal; font-size: .92rem; opacity: .85; }
  .wide { overflow-x: auto; }
  .picture img { min-width: 32rem; width: 100%; }
  th, td { padding: .3rem .6rem; }
  .table td { white-space: nowrap; }
  .number { text-align: right; font-variant-numeric: tabular-nums; }
  tr.section td { border-top: 2px solid var(--line); }
  .notes { font-size: .85rem; opacity: .8; }
  .notes p { margin: .3rem 0; }
  .why { opacity: .8; }
  .failed { border-left: 3px solid #D55E00; padding-left: .8rem; }
"""


def write_report(study: Study, setting: Setting, shown: Shown, records: Sequence[Record]) -> None:
    """Write `report.html`, `tables.md`, `tables.tex` and `figures/` into the study's folder."""
    out = setting.out
    failed = [record for record in records if record.error]
    parts = [
        f"<h1>{html.escape(study.title)}</h1>",
        f'<p class="why">{html.escape(study.why)}</p>',
        *(f"<p>{html.escape(line)}</p>" for line in shown.findings),
        *(_failure(record) for record in failed),
        *(table.html() for table in shown.tables),
        *(_picture(picture, setting) for picture in shown.pictures),
        "<h2>How it was measured</h2>",
        _facts(study, setting, records),
    ]
    write_whole(out / REPORT, page(study.title, "\n".join(parts), _STYLE).encode())
    heading = f"# {study.title}\n\n{study.why}\n"
    tables = [table.markdown() for table in shown.tables]
    write_whole(out / MARKDOWN, "\n".join([heading, *tables]).encode())
    latex = "\n".join(table.latex() for table in shown.tables)
    write_whole(out / LATEX, f"% needs \\usepackage{{booktabs}}\n{latex}".encode())


def _picture(picture: Picture, setting: Setting) -> str:
    _, drawing = picture.save(setting.out / PICTURES)
    inner = image(drawing.read_bytes(), "svg+xml", picture.caption)
    return (
        f'<figure class="picture"><div class="wide">{inner}</div>'
        f"<figcaption>{html.escape(picture.caption)}</figcaption></figure>"
    )


def _failure(record: Record) -> str:
    where = ", ".join(f"{name} {value}" for name, value in record.settings.items())
    return f'<p class="failed">Not measured: {html.escape(f"{where}: {record.error}")}</p>'


def _facts(study: Study, setting: Setting, records: Sequence[Record]) -> str:
    """The setting, machines and versions, as a table."""
    begun: dict[str, Any] = read_study(setting.out) or {"runs": []}
    facts: list[tuple[str, str]] = [("study", study.name), ("base", setting.model)]
    facts += [("adapter", folder) for folder in setting.adapters]
    if setting.recipe is not None:
        facts.append(("recipe", f"{setting.recipe.task} on {setting.recipe.data.train}"))
    facts += [(name, str(value)) for name, value in setting.options.items()]
    seconds = sum(record.seconds for record in records)
    facts.append(("measured", f"{len(records)} cells in {seconds:,.0f} s"))
    for run in begun["runs"]:
        versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
        where = f"{run['machine']}, {run['threads']} of {run['cores']} threads; {versions}"
        facts.append((run["date"], where))
    rows = "".join(
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>"
        for name, value in dict.fromkeys(facts)
    )
    return f'<div class="wide"><table>{rows}</table></div>'
