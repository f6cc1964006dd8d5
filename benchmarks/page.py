"""The page over a folder with many adapters and runs: when it is ready, and what a visitor costs.

    python benchmarks/page.py [--adapters 300] [--runs 50] [--rounds 20]

Times are medians in milliseconds; "processor" is that of the server alone. It keeps other programs
from the figures, but not what they do to caches. Handlers are measured in this process, the rest
with `lorakit ui` as a process of its own and Chromium before it, where there is one.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from crowd import Growing, build, growing
from visitor import Cost, Visitor, cost, named

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
ROWS = 50_000  # of the data that the form is filled with
SLOW = 50.0  # milliseconds of a handler that are told
TABS = ("library", "train", "try", "blend", "learn")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--adapters", type=int, default=300)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    os.environ |= {"HF_HUB_OFFLINE": "1"}
    with tempfile.TemporaryDirectory() as name:
        # The index and the keys of these pages are no one else's.
        os.environ |= {"XDG_CACHE_HOME": f"{name}/cache", "XDG_STATE_HOME": f"{name}/state"}
        work = Path(name, "work")
        build(work, adapters=options.adapters, runs=options.runs, rows_of_data=ROWS)
        print(f"{options.adapters} adapters, {options.runs} runs, {options.rounds} rounds")
        served(work, options.rounds)
        with growing(work) as grown:
            handlers(work, grown, options.rounds)


def handlers(work: Path, grown: Growing, rounds: int) -> None:
    """Each handler by itself, in this process."""
    from lorakit.web.layout import build as build_page
    from lorakit.web.news import news
    from lorakit.web.place import Place

    blocks, page = build_page(Place.of(work))
    visitor = Visitor(blocks)
    for step in visitor.steps("load"):
        visitor.do(step)
    head("one look at the runs", "processor", "time")
    seen = ""

    def tick() -> None:
        nonlocal seen
        told = news(page, None, seen)
        seen = seen if told is None else told["seen"]

    row("nothing has changed", cost(tick, rounds))
    row("one run has another step", cost(tick, rounds, before=grown.grow))

    head(f"handler (those from {SLOW:.0f} ms on)", "event", "processor", "time")
    events = [("load", "load", None)]
    events += [(f"tab {name}", "select", page.tabs[name]._id) for name in TABS]
    rest = 0.0
    for shown, event, block in events:
        for step in visitor.steps(event, block):
            found = cost(lambda step=step: visitor.do(step), rounds)
            if found.cpu >= SLOW:
                row(f"{named(step)} | {shown}", found)
            else:
                rest = max(rest, found.cpu)
    print(f"\nThe largest of the others: {rest:.1f} ms.")

    head("part", "processor", "time")
    row("library.refresh", cost(page.library.refresh, rounds))
    row("library.search, 61 of them", cost(lambda: page.library.search("", limit=61), rounds))
    row("choices.lists: bases and data", cost(page.choices.lists, rounds))
    row("page.adapters", cost(page.adapters, rounds))
    row("queue.jobs", cost(page.queue.jobs, rounds))
    form(work, page, rounds)


def form(work: Path, page: Any, rounds: int) -> None:
    """What each change of the form costs, with data of some size."""
    from lorakit.web.choices import STORIES
    from lorakit.web.fields import form_fields
    from lorakit.web.maker import Maker

    maker = Maker(page.choices, form_fields())
    base = page.choices.lists()[0][0][1]
    changes = iter(range(1, 10**6))  # of which each gives a recipe that nobody asked about yet

    def changed(act: Callable[..., Any], values: list[Any], field: str, form: str) -> Cost:
        place = 4 + [own.name for own in maker.known].index(field)

        def ask() -> None:
            act(*values[:place], form.format(next(changes)), *values[place + 1 :])

        return cost(ask, max(3, rounds // 4))

    head("a change of the training form", "processor", "time")
    for shown, data in (("2,400", STORIES), (f"{ROWS:,}", str(work / "data" / "many.jsonl"))):
        goals, fields, _ = maker.data_chosen(base, data)
        values = [base, data, goals[0], "next", *fields]
        row(f"recipe, {shown} rows", changed(maker.texts, values, "train.lr", "{}e-5"))
        row(f"estimate, {shown} rows, rate", changed(maker.estimated, values, "train.lr", "{}e-5"))
        row(
            f"estimate, {shown} rows, rank",
            changed(maker.estimated, values, "lora.rank", "{}"),
        )
        row(f"preview, {shown} rows", changed(maker.rows, values, "train.lr", "{}e-5"))


def served(work: Path, rounds: int) -> None:
    """The page as a process of its own, before a browser."""
    from browsing import ARGUMENTS, CHROMIUM, Server

    begun = time.perf_counter()
    server = Server(work)
    try:
        answers = time.perf_counter() - begun
        head("start of `lorakit ui`", "processor", "time")
        row("until the address answers", Cost(1000 * used(server), 1000 * answers))
        if CHROMIUM is None:
            print("\nThere is no Chromium here, so nothing is measured before one.")
            return
        from playwright.sync_api import sync_playwright

        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
            foreign = visits(browser, server, max(3, rounds // 4))
            foreign += polls(browser, server, work, rounds)
            browser.close()
        print(f"\nRequests to other addresses: {len(foreign)} {sorted(set(foreign))[:5] or ''}")
    finally:
        server.close()


def visits(browser: Any, server: Any, rounds: int) -> list[str]:
    """How long until cards are drawn, and until the training tab has its estimate."""
    from browsing import turn

    def cards(page: Any) -> None:
        page.locator("#cards .card").first.wait_for()

    def facts(page: Any) -> None:
        turn(page, "Train")
        page.locator("#facts").get_by_text("parameters").wait_for()

    foreign: list[str] = []
    found: dict[str, list[Cost]] = {}
    for number in range(rounds + 1):
        for ready in (cards, facts):
            with opened(browser, server, foreign) as page:
                what = "Library's cards" if ready is cards else "Train's estimate"
                visit = "first visit of all" if number == 0 else "visit of a new browser"
                for kind, go in ((visit, lambda: page.goto(server.link)), ("reload", page.reload)):
                    cost = timed(server, go, lambda ready=ready, page=page: ready(page))
                    found.setdefault(f"{what}, {kind}", []).append(cost)
    head("page ready: from the address to", "server's processor", "time")
    for name, costs in sorted(found.items()):
        row(name, middle(costs))
    return foreign


def timed(server: Any, *acts: Callable[[], Any]) -> Cost:
    """What some acts in the browser take, and what they cost the server."""
    before, begun = used(server), time.perf_counter()
    for act in acts:
        act()
    return Cost(1000 * (used(server) - before), 1000 * (time.perf_counter() - begun))


def polls(browser: Any, server: Any, work: Path, rounds: int) -> list[str]:
    """What the server does for a page that is open and looks for news."""
    from browsing import turn

    head("one look of an open page, whole", "server's processor", "requests")
    foreign: list[str] = []
    idle = used(server)
    time.sleep(10)
    idle = (used(server) - idle) / 10
    with opened(browser, server, foreign) as page:
        page.goto(server.link)
        turn(page, "Train")  # where the clock is, which before is not there
        page.wait_for_timeout(20_000)
        many(page, server, "nothing has changed", idle, rounds)
        turn(page, "Library")
        page.wait_for_timeout(2_000)
        many(page, server, "nothing has changed, another tab open", idle, rounds)
        turn(page, "Train")
        with growing(work) as grown:
            page.reload()  # a page that looks at another run stays with it
            turn(page, "Train")
            page.locator("#status").get_by_text("trains").wait_for()
            page.wait_for_timeout(20_000)  # until what loading the page set off is over
            many(page, server, "one run trains", idle, rounds, grown)
    print(f"\nWithout a visitor it takes {1000 * idle:.1f} ms of processor time a second.")
    return foreign


def many(
    page: Any, server: Any, what: str, idle: float, rounds: int, grown: Growing | None = None
) -> None:
    """Wait for so many looks and print what each cost, without what the server takes anyway.

    What a look sets off, such as drawing a curve that has grown, counts as part of it.
    """
    from lorakit.web.watch import EVERY

    joined: list[str] = []

    def note(request: Any) -> None:
        if request.url.partition("?")[0].endswith(("/news", "/queue/join")):
            joined.append(request.url)

    page.on("request", note)
    before, begun = used(server), time.perf_counter()
    while time.perf_counter() - begun < EVERY * rounds:
        if grown is not None:
            grown.grow()
        page.wait_for_timeout(500)
    looks = (time.perf_counter() - begun) / EVERY
    spent = 1000 * (used(server) - before - idle * looks * EVERY)
    page.remove_listener("request", note)
    print(f"| {what} | {spent / looks:.1f} | {len(joined) / looks:.1f} |")


@contextmanager
def opened(browser: Any, server: Any, foreign: list[str]) -> Iterator[Any]:
    """An empty page of a browser that knows nothing of the server yet."""
    from browsing import WAIT

    context = browser.new_context(viewport={"width": 1200, "height": 900})
    page = context.new_page()
    page.set_default_timeout(WAIT)
    own = (server.address, "data:", "blob:")
    page.on("request", lambda r: None if r.url.startswith(own) else foreign.append(r.url))
    yield page
    context.close()


def used(server: Any) -> float:
    """Seconds of processor time of the server, threads that ended included (Linux)."""
    # Clock of another process: clock_getcpuclockid(3) makes it of the number in this way.
    return time.clock_gettime((~server.process.pid << 3) | 2)


def middle(costs: Sequence[Cost]) -> Cost:
    """The median of each figure."""
    return Cost(
        statistics.median(own.cpu for own in costs), statistics.median(own.wall for own in costs)
    )


def head(*names: str) -> None:
    """Begin a table."""
    print(f"\n| {' | '.join(names)} |\n|{'---|' * len(names)}", flush=True)


def row(name: str, found: Cost) -> None:
    """A line of a table."""
    print(f"| {name} | {found.cpu:.1f} | {found.wall:.1f} |", flush=True)


if __name__ == "__main__":
    main()
