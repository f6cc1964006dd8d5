"""The reports of studies: a list of links, and the route that they lead to."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from markupsafe import Markup

from lorakit.web.page import Page

MOST = 50
# A report has no script, and what came from elsewhere under its name runs none either.
POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; sandbox; frame-ancestors 'none'"
)


def report_files(page: Page) -> dict[str, Path]:
    """The studies' reports below the roots, by a key for their address."""
    found: dict[str, Path] = {}
    for root in page.place.roots:
        for file in sorted(root.glob("**/study.json"))[:MOST]:
            report = file.with_name("report.html")
            if report.is_file() and report.resolve().is_relative_to(root):
                found[hashlib.sha256(str(report).encode()).hexdigest()[:12]] = report
    return found


def reports(page: Page) -> str:
    """Links to the studies' reports."""
    items = Markup("").join(
        Markup('<li><a href="/report/{}" target="_blank" rel="noopener">{}</a></li>').format(
            key, page.place.short(file.parent)
        )
        for key, file in report_files(page).items()
    )
    empty = "No study below these folders yet: lorakit study makes one."
    return str(Markup("<ul>{}</ul>").format(items) if items else Markup("<p>{}</p>").format(empty))


def add_reports(app: Any, page: Page) -> None:
    """Serve each report that the list names, and nothing else."""
    from fastapi.responses import HTMLResponse, PlainTextResponse

    @app.get("/report/{key}")
    def report(key: str) -> Any:
        file = report_files(page).get(key)
        if file is None:
            return PlainTextResponse("There is no such report. Open the list again.", 404)
        text = file.read_text(encoding="utf-8", errors="replace")
        return HTMLResponse(text, headers={"content-security-policy": POLICY})
