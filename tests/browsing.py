"""The page as a process of its own, and a real browser in front of it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
WAIT = 150_000  # milliseconds: machines that test are busy


class Server:
    """`lorakit ui` over a folder; what it starts is ended with it."""

    def __init__(self, work: Path, *roots: Path, port: int = 0, env: dict | None = None) -> None:
        self.work = work
        work.mkdir(parents=True, exist_ok=True)
        self.log = work.parent / f"{work.name}.log"
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "lorakit", "ui", str(work), "--port", str(port),
                 *(part for root in roots for part in ("--root", str(root)))],
                stdout=out, stderr=subprocess.STDOUT, cwd=work.parent,
                env={**os.environ, "XDG_STATE_HOME": str(work.parent / "state"),
                     "XDG_CACHE_HOME": str(work.parent / "cache"), "PYTHONUNBUFFERED": "1",
                     **(env or {})},
            )  # fmt: skip
        self.link = self._link()
        self.address = self.link.partition("?")[0]
        self.port = int(re.findall(r":(\d+)/", self.address)[0])

    def _link(self) -> str:
        end = time.monotonic() + 120
        while time.monotonic() < end:
            found = re.search(r"open (http\S+)", self.log.read_text(errors="replace"))
            if found and self._answers(found.group(1)):
                return found.group(1)
            if self.process.poll() is not None:
                break
            time.sleep(0.1)
        raise AssertionError(self.log.read_text(errors="replace"))

    def _answers(self, link: str) -> bool:
        import httpx

        try:
            return httpx.get(link, timeout=10).status_code == 200
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        """As `kill -9` does: no chance to say goodbye."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(30)

    def close(self) -> None:
        """End the page and what it trains."""
        from lorakit.jobs.queue import QUEUE, Queue

        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()
        queue = Queue(self.work / "runs" / QUEUE)
        end = time.monotonic() + 60
        while time.monotonic() < end:
            going = [job for job in queue.jobs() if job.state in ("waiting", "running")]
            if not going and not queue.works():
                return
            for job in going:
                if not job.stopping:
                    queue.cancel(job.id)
            time.sleep(0.2)


def visit(context, server: Server, tab: str | None = None):
    """A page of the browser that has come in, and turned to a tab; foreign requests are kept."""
    page = context.new_page()
    page.set_default_timeout(WAIT)
    page.foreign, page.wrong = [], []
    page.on("request", lambda own: _note(page, server, own.url))
    page.on("pageerror", lambda error: page.wrong.append(str(error)))
    page.on("console", lambda own: page.wrong.append(own.text) if own.type == "error" else None)
    page.goto(server.link)
    page.get_by_role("tab", name="Train").wait_for()
    if tab is not None:
        turn(page, tab)
    return page


def turn(page, tab: str) -> None:
    """Turn to a tab of the page; those that have no room stand in a menu."""
    name = re.compile(rf"^\s*{tab}\s*$")
    page.locator("#tabs > .tab-wrapper [role=tab]:visible").first.wait_for()
    shown = page.locator("#tabs > .tab-wrapper [role=tab]:visible", has_text=name)
    if not shown.count():
        page.locator("#tabs > .tab-wrapper .overflow-menu > button").click()
        shown = page.locator("#tabs > .tab-wrapper .overflow-dropdown button", has_text=name)
    shown.first.click()


def _note(page, server: Server, url: str) -> None:
    if not url.startswith((server.address, "data:", "blob:")):
        page.foreign.append(url)


def shorten(page, steps: int) -> None:
    """Set the steps of the next training."""
    page.locator("#facts").get_by_text("parameters").wait_for()  # the form has filled itself
    page.get_by_role("button", name="All settings").click()
    page.locator("#train-steps textarea, #train-steps input").first.fill(str(steps))
    page.get_by_role("button", name="Recipe and command").click()
    page.wait_for_function(
        "steps => document.querySelector('.cm-content')?.innerText.includes('steps: ' + steps)",
        arg=steps,
    )


def number(page, where: str, value: str) -> None:
    """Type a number, and Enter."""
    field = page.locator(f"{where} input[type=number]")
    field.wait_for()
    page.wait_for_timeout(500)  # what is shown for the first time sets its values once more
    field.fill(value)
    field.press("Enter")


def choose(page, dropdown: str, *names: str, only: bool = False) -> None:
    """Choose from a list by what it shows; with `only` nothing else than this."""
    box = page.locator(f"{dropdown} input[role=combobox]")
    box.wait_for()
    if only:
        clear = page.locator(f"{dropdown} [aria-label='Clear all'], {dropdown} .remove-all")
        for _ in range(WAIT // 200):  # a tab that is opened chooses by itself, with its list
            box.click()
            if page.get_by_role("option").count():
                break
            box.blur()
            page.wait_for_timeout(200)
        box.blur()
        if clear.count():
            clear.first.click()
    for name in names:
        box.click()
        shown = re.escape(name).replace("/", r"\/")  # as a pattern of the browser's
        page.get_by_role("option", name=re.compile(rf"^\W*{shown}\W*$")).click()
    page.keyboard.press("Escape")


def reach(page, wanted: str | None) -> list[str]:
    """Press Tab until an element has the focus; without one, what in the open tab is passed over.

    Of radio buttons one is reached by Tab, the others by arrows, as browsers have it.
    """
    seen = page.evaluate("() => { window.met = new Set(); return 0 }")
    for _ in range(300):
        page.keyboard.press("Tab")
        there = page.evaluate(
            """wanted => {
                const own = document.activeElement
                const again = window.met.has(own)
                window.met.add(own)
                return [wanted !== null && own.matches(wanted), again || own === document.body]
            }""",
            None if wanted is None or ":has-text" in wanted else wanted,
        )
        if wanted is not None and (
            there[0] or page.locator(f"{wanted}:focus").count()
        ):  # :has-text is no selector of the browser's
            return []
        seen += there[1]
        if wanted is None and seen > 2:
            break
    else:
        raise AssertionError(f"Tab does not lead to {wanted}")
    return page.evaluate(
        """() => [...document.querySelectorAll('button, input, textarea, select, a[href]')]
            .filter(own => own.checkVisibility({visibilityProperty: true, opacityProperty: true})
                && !own.disabled && own.type !== 'radio' && own.type !== 'file'
                && !window.met.has(own) && own.getClientRects().length
                && !own.closest('[aria-hidden=true]'))
            .map(own => own.outerHTML.slice(0, 160))"""
    )
