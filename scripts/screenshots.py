"""The pictures of the page in the docs: `python scripts/screenshots.py`, in some five minutes.

Trains three small adapters on the base that comes along, opens `lorakit ui` in Chromium, and
writes docs/images/*.png. Needs the development environment and Chromium.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from browsing import ARGUMENTS, CHROMIUM, Server, choose, shorten, turn, visit  # noqa: E402

IMAGES = ROOT / "docs" / "images"
RUNS = {"storyteller": {}, "short-study": {"lora.rank": 4, "train.steps": 60},
        "attention-only": {"lora.targets": "attention", "train.steps": 120}}  # fmt: skip


def main() -> None:
    """Make what is shown, then take each picture."""
    from playwright.sync_api import sync_playwright

    if CHROMIUM is None:
        sys.exit("There is no Chromium here: apt-get install chromium.")
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="lorakit-") as folder:
        work = Path(folder) / "work"
        for name, changes in RUNS.items():
            trained(work, name, changes)
        server = Server(work)
        try:
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
                context = browser.new_context(viewport={"width": 1100, "height": 800})
                page = visit(context, server)
                for take in (library, train, running, trying, blend, learn):
                    take(page)
                    page.wait_for_timeout(1500)
                    page.mouse.move(0, 0)
                    page.screenshot(path=IMAGES / f"{take.__name__}.png", full_page=True)
                browser.close()
        finally:
            server.close()


def trained(work: Path, name: str, changes: dict) -> None:
    """A run on the rows that come along."""
    from lorakit.demo.recipe import demo_recipe
    from lorakit.train.recipe import make_recipe, set_field
    from lorakit.train.run import run

    raw = demo_recipe(work / "data" / "stories", str(work / "runs" / name)).model_dump()
    for field, value in changes.items():
        set_field(raw, field, value)
    run(make_recipe(raw))


def library(page) -> None:
    """Cards, and one adapter in detail."""
    page.locator("#cards button.card").nth(2).wait_for()
    page.locator("#cards button.card", has_text="storyteller").first.click()
    page.locator("#detail .blocks.heat").wait_for()


def train(page) -> None:
    """The form, with rows as training sees them and the layers that learn."""
    turn(page, "Train")
    page.locator("#facts").get_by_text("parameters").wait_for()
    page.get_by_role("button", name="Look at the rows").click()
    page.locator("ol.rows li").first.wait_for()
    page.get_by_role("button", name="Where it learns").click()
    page.locator("#blocks button").first.wait_for()


def running(page) -> None:
    """A run that learns, what it writes by now, and others beside it."""
    page.get_by_role("button", name="Look at the rows").click()
    page.get_by_role("button", name="Where it learns").click()
    shorten(page, 200)
    page.get_by_role("button", name="All settings").click()
    page.get_by_role("button", name="Recipe and command").click()
    page.locator("#start").click()
    page.locator("#status").get_by_text("trains").wait_for()
    page.get_by_role("button", name="What it writes by now").click()
    page.get_by_label("And again at every checkpoint").check()
    page.locator("#samples li").nth(1).wait_for(timeout=240_000)
    page.get_by_role("button", name="All runs").click()
    choose(page, "#compare", "runs/storyteller", "runs/short-study")
    page.locator("#comparison th").first.wait_for()


def trying(page) -> None:
    """The same line to the base and to two adapters."""
    page.locator("#stop").click()
    turn(page, "Try")
    choose(page, "#try-adapters", "storyteller", "short-study", only=True)
    page.locator("#try-go").click()
    page.locator(".voice.done").nth(2).wait_for()


def blend(page) -> None:
    """Two adapters as one, and what they have in common."""
    turn(page, "Blend")
    choose(page, "#blend-adapters", "storyteller", "attention-only", only=True)
    page.locator("#blend-hear").click()
    page.locator("#blend-answers .voice.done").nth(3).wait_for()
    page.get_by_role("button", name="What they have in common").click()
    page.locator("#overlap td").first.wait_for()


def learn(page) -> None:
    """W + BA to scale, and a merge that is taken out again."""
    turn(page, "Learn")
    page.locator("#learn-picture .lost").wait_for()
    page.locator("#learn-rank input[type=number]").fill("3")
    page.locator("#learn-rank input[type=number]").press("Enter")
    page.locator("#learn-prove").click()
    page.locator("#learn-proof li").first.wait_for()


if __name__ == "__main__":
    main()
